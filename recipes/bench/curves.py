"""Time and memory against length, and speed against batch: tables, exponents and one picture.

    .venv/bin/python recipes/bench/curves.py --picture docs/curves.png

The packaged model on two threads in float32, each point a process of its own, on the sample
conversation, repeated. Reading and post-processing count, loading the model does not; memory is the
largest that the process had.

- **length**: one recording of so many minutes, after a minute to warm up; the best of three where
  it takes less than five seconds.
- **batch**: 32 recordings of a minute, so many judged together.
- **streams**: so many streams fed together, at 1.04 s, of the packaged sizes with weights as they
  are drawn and features that are not normalised, which a stream cannot have.
- **exponent**: of the power of the length, or of the number, that fits best: 1 is in proportion.
"""

import argparse
import json
import math
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from bench import SAMPLE_RATE, sample, write_audio
from process import ask
from published import peak
from report import Found, Report, add_json

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MINUTES = (1, 10, 60, 180)
BATCHES = (1, 2, 4, 8, 16)
STREAMS = (1, 4, 16)
FILES = 32
STREAMED = 35

COLUMNS = {"kind": "", "number": "", "seconds": ".3f", "x real time": ".0f", "peak MiB": ".0f"}
FITS = {"kind": "", "exponent of": "", "exponent": ".2f"}
KINDS = {"length": MINUTES, "batch": BATCHES, "streams": STREAMS}

Point = dict[str, Any]


def main() -> None:
    """Measure, print, fit and draw."""
    parser = argparse.ArgumentParser(description="Time and memory against length and batch.")
    parser.add_argument("kinds", nargs="*", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--model", default="default", help="default: the packaged one")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="png, svg or pdf")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    add_json(parser)
    args = parser.parse_args()
    if args.measure:
        kind, number = args.measure
        print(json.dumps(measure(kind, int(number), args.model)))
        return
    unknown = set(args.kinds) - set(KINDS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))} is not one of {', '.join(KINDS)}")
    points: list[Point] = []
    report = Report("curves", COLUMNS, args.json)
    for kind in args.kinds or KINDS:
        for number in KINDS[kind]:
            command = [sys.executable, __file__, "--model", args.model]
            found = ask([*command, "--measure", kind, str(number)])
            points.append({"kind": kind, "number": number, **found})
            points[-1]["x real time"] = found["audio"] / found["seconds"]
            points[-1]["peak MiB"] = found["peak"]
            report.add(points[-1])
    print()
    fits = Report("curves, fitted", FITS, args.json)
    for row in fitted(points):
        fits.add(row)
    if args.picture is not None:
        draw(args.picture, points)


def measure(kind: str, number: int, model: str) -> Found:
    """Seconds, seconds of audio and peak memory of one point."""
    import torch

    from diarize.memory import keep_freed_memory
    from diarize.model import Diarizer

    torch.set_num_threads(2)
    torch.manual_seed(0)
    keep_freed_memory()
    diarizer = Diarizer.from_pretrained(model)
    with tempfile.TemporaryDirectory() as folder:
        take = {"length": length, "batch": batch, "streams": streams}[kind]
        return take(diarizer, number, Path(folder)) | {"peak": peak()}


def length(diarizer: Any, minutes: int, folder: Path) -> Found:
    """A recording of so many minutes."""
    diarizer(write_audio(folder / "warm_up.wav", 60))
    audio = write_audio(folder / "audio.wav", 60 * minutes)
    times: list[float] = []
    while len(times) < 3 and sum(times) < 5:
        begun = time.perf_counter()
        diarizer(audio)
        times.append(time.perf_counter() - begun)
    return {"seconds": min(times), "audio": 60.0 * minutes}


def batch(diarizer: Any, size: int, folder: Path) -> Found:
    """Recordings of a minute, so many windows together."""
    from dataclasses import replace

    from diarize.inference import Diarization, InferenceConfig, diarize_sessions
    from diarize.manifest import Session

    audio = write_audio(folder / "audio.wav", 60)
    sessions = [Session(f"minute_{number}", audio) for number in range(FILES)]
    config = replace(InferenceConfig.of(diarizer), batch_size=size, latency="offline")
    diarizer(audio)
    begun = time.perf_counter()
    answers = list(diarize_sessions(diarizer, sessions, config, progress=False))
    seconds = time.perf_counter() - begun
    assert all(isinstance(answer, Diarization) for answer in answers)
    return {"seconds": seconds, "audio": 60.0 * FILES}


def streams(diarizer: Any, number: int, folder: Path) -> Found:
    """A step of so many streams, cache and queue full."""
    from diarize.latency import LATENCIES, parse_latency
    from diarize.model import Diarizer
    from diarize.stream import feed_together
    from diarize.streaming import StreamingDiarizer

    del folder
    config = diarizer.config
    config.front_end["mel"] |= {"normalization": "none", "peak_scaling": "none"}
    latency = parse_latency(LATENCIES["1.04s"])
    assert latency is not None
    model = Diarizer(config).eval()
    fed = [StreamingDiarizer(model, latency) for _ in range(number)]
    chunk = latency.chunk * model.front_end.grid.frame_shift
    piece, steps = round(chunk * SAMPLE_RATE), []
    waveform = np.resize(sample(), STREAMED * SAMPLE_RATE)
    for first in range(0, len(waveform) - piece, piece):
        begun = time.perf_counter()
        feed_together(fed, [waveform[first : first + piece]] * number)
        steps.append(time.perf_counter() - begun)
    return {"seconds": statistics.median(steps[-len(steps) // 3 :]), "audio": chunk * number}


def fitted(points: Sequence[Point]) -> list[dict[str, Any]]:
    """How each kind grows: its time and its memory."""
    rows = []
    for kind in dict.fromkeys(point["kind"] for point in points):
        own = [point for point in points if point["kind"] == kind]
        for what, key in (("time", "seconds"), ("memory", "peak MiB")):
            if kind == "batch" and what == "time":
                continue  # the same recordings at every size
            numbers = [point["number"] for point in own]
            grows = exponent(numbers, [point[key] for point in own])
            rows.append({"kind": kind, "exponent of": what, "exponent": grows})
    return rows


def exponent(numbers: Sequence[float], values: Sequence[float]) -> float:
    """Of the power law through the points that has the least squares in logarithms."""
    x, y = ([math.log(value) for value in each] for each in (numbers, values))
    middle, level = statistics.mean(x), statistics.mean(y)
    rise = sum((a - middle) * (b - level) for a, b in zip(x, y, strict=True))
    return rise / sum((a - middle) ** 2 for a in x)


def draw(path: Path, points: Sequence[Point]) -> None:
    """Write the picture, whole or not at all: a panel for each kind that was measured."""
    from matplotlib.figure import Figure

    from diarize.files import replacing
    from diarize.picture import COLORS

    panels = [
        ("length", "seconds", "minutes of audio", "seconds"),
        ("length", "peak MiB", "minutes of audio", "peak memory, MiB"),
        ("batch", "x real time", "recordings together", "times real time"),
        ("streams", "x real time", "streams together", "seconds of audio a second"),
    ]
    measured = {point["kind"] for point in points}
    panels = [panel for panel in panels if panel[0] in measured]
    figure = Figure(figsize=(3.2 * len(panels), 3.0), layout="constrained")
    every = figure.subplots(1, len(panels), squeeze=False)[0]
    for (kind, key, below, beside), drawn, color in zip(panels, every, COLORS, strict=False):
        axes = cast("Axes", drawn)
        own = [point for point in points if point["kind"] == kind]
        numbers, values = [p["number"] for p in own], [p[key] for p in own]
        axes.plot(numbers, values, marker="o", color=color)
        axes.set(xlabel=below, ylabel=beside, xscale="log")
        if kind == "length":
            axes.set_yscale("log")
            grows = exponent(numbers, values)
            axes.set_title(f"grows with the power {grows:.2f}", fontsize="medium")
        else:
            axes.set_ylim(bottom=0)
        axes.set_xticks(numbers, [str(number) for number in numbers])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as place, place.open("wb") as file:
        figure.savefig(file, format=path.suffix[1:] or "png", dpi=100)


if __name__ == "__main__":
    main()
