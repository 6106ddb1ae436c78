"""The published models at full size, with random weights: how fast, and how large in memory.

    .venv/bin/python recipes/bench/published.py
    .venv/bin/python recipes/bench/published.py v2/1.04s --peers PYTHON

Each cell is measured in a process of its own with two torch threads in float32, on the sample
conversation, repeated. ``x4`` is so many recordings, or streams, in one batch. ``--peers`` names a
Python that has nemo_toolkit[asr] and transformers, as `make peers` installs them; its measurements
then stand beside ours, both taken in turns (``--rounds``), as the machine's speed varies.

- **seconds**: for so much audio at once (v1), in windows of 90 s where it is an hour (ours alone);
  for a step of a stream, the median over the last third of 50 seconds of audio (v2) or 66
  (Nemotron-3), when cache and queue are full, or of 16 seconds where there are several streams.
- **audio**: seconds of it that are answered by then, of all recordings and streams together.
- **import**: until the library can build a model. **load**: ours alone, a native folder.
- **first**: ours alone, from nothing imported to the first answer, once its audio is there.
- **peak**: largest resident memory of the process, MiB. Peers draw their weights and read none.
"""

import argparse
import json
import re
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from process import ask
from report import Found, Report, add_json, in_turns

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "models"
PEER_MODELS = Path(__file__).with_name("peer_models.py")
RATE = 16000
FRAME = 0.08
HOUR = 3600

V2 = {"default": (188, 1, 1, 0, 188), "1.04s": (6, 1, 7, 188, 144), "0.32s": (3, 1, 1, 188, 144)}
NEMOTRON = {"30.4s": (340, 40, 40, 300), "1.04s": (9, 4, 264, 222), "0.32s": (3, 1, 264, 222)}
"""Settings of streams in frames: chunk, (left,) right, fifo, update."""

MEASURES = [
    "v1/60",
    "v1/60x4",
    "v1/600",
    "v1/3600",
    *(f"v2/{name}" for name in V2),
    "v2/1.04sx32",
    *(f"nemotron3/{name}" for name in NEMOTRON),
]
QUICK = ["v1/60", "v2/default", "v2/1.04s", "nemotron3/30.4s", "nemotron3/1.04s"]
"""Measured where none is named: two minutes on two idle cores."""

ALONE = {"v1/3600"}
"""Which peers cannot do: an hour at once does not fit."""

COLUMNS = {"model": "", "seconds": ".3f", "audio": ".2f", "x real time": ".2f"}
COLUMNS |= {"import": ".1f", "load": ".1f", "first": ".1f", "peak MiB": ".0f"}
PEER_COLUMNS = {"peer": ".3f", "peer import": ".1f", "peer peak MiB": ".0f", "ratio": ".2f"}


class Cell(NamedTuple):
    """What is measured: ``v2/1.04sx32``."""

    model: str
    setting: str
    batch: int

    @classmethod
    def parse(cls, name: str) -> "Cell":
        """Of its name."""
        found = re.fullmatch(r"(\w+)/(.+?)(?:x(\d+))?", name)
        assert found is not None, name
        return cls(found[1], found[2], int(found[3] or 1))

    @property
    def chunk(self) -> float:
        """Seconds that a step of a stream answers for."""
        return (V2 if self.model == "v2" else NEMOTRON)[self.setting][0] * FRAME

    @property
    def length(self) -> int:
        """Seconds of each recording."""
        if self.model == "v1":
            return int(self.setting)
        if self.batch > 1:
            return 16
        long = {"default": 120, "30.4s": 180}
        return long.get(self.setting, 50 if self.model == "v2" else 66)

    @property
    def audio(self) -> float:
        """Seconds answered in one go, of the whole batch."""
        return self.batch * (self.length if self.model == "v1" else self.chunk)

    @property
    def latency(self) -> str:
        """Of a stream, as `parse_latency` takes it."""
        if self.model == "v2":
            chunk, left, right, fifo, update = V2[self.setting]
            cache, silence = 188, 3
        else:
            chunk, right, fifo, update = NEMOTRON[self.setting]
            left, cache, silence = 0, 264, 1
        return (
            f"chunk={chunk},left={left},right={right},fifo={fifo},cache={cache},update={update},"
            f"silence={silence}"
        )


def main() -> None:
    """Measure all that was asked for and print a table."""
    parser = argparse.ArgumentParser(description="Speed and memory of the published models.")
    parser.add_argument("names", nargs="*", metavar="MODEL/MEASURE", help=", ".join(MEASURES))
    parser.add_argument("--all", action="store_true", help="of these all, not the quick ones")
    parser.add_argument("--peers", metavar="PYTHON", help="also measure NeMo and transformers")
    parser.add_argument("--rounds", type=int, default=2, help="of both (default: 2)")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    add_json(parser)
    args = parser.parse_args()
    if args.measure:
        print(json.dumps(measure(*args.measure)))
        return
    unknown = set(args.names) - set(MEASURES)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))} is not one of {', '.join(MEASURES)}")
    report = Report("published", COLUMNS | (PEER_COLUMNS if args.peers else {}), args.json)
    with tempfile.TemporaryDirectory() as folder:
        for name in args.names or (MEASURES if args.all else QUICK):
            found, theirs = compare(name, args.peers, Path(folder), args.rounds)
            row = {"model": name, **found, "x real time": found["audio"] / found["seconds"]}
            row["peak MiB"] = found["peak"]
            if theirs is not None:
                row |= {"peer": theirs["seconds"], "peer import": theirs["import"]}
                row |= {"peer peak MiB": theirs["peak"]}
                row["ratio"] = theirs["seconds"] / found["seconds"]
            report.add(row)


def compare(name: str, peers: str | None, folder: Path, rounds: int) -> tuple[Found, Found | None]:
    """What ours takes, and what the peer does, in turns; None where there is none to ask."""
    model = native(Cell.parse(name).model, folder)

    def ours() -> Found:
        return ask([sys.executable, __file__, "--measure", "ours", name, str(model)])

    if peers is None or name in ALONE:
        return ours(), None
    return in_turns(ours, lambda: ask([peers, str(PEER_MODELS), "measure", name]), rounds)


def native(model: str, folder: Path) -> Path:
    """A native folder with a model of the published size, written once, by another process."""
    place = folder / model
    if not place.exists():
        ask([sys.executable, __file__, "--measure", "write", model, str(place)])
    return place


def measure(what: str, name: str, place: str) -> Found:
    """Seconds, audio seconds, import, load, first answer and peak memory of one cell."""
    if what == "write":
        from diarize.checkpoint import save_checkpoint

        save_checkpoint(full_size(name), Path(place))
        return {}
    cell = Cell.parse(name)
    waveform = samples(cell)
    found = ours(cell, waveform, Path(place))
    return found | {"audio": cell.audio, "peak": peak()}


def samples(cell: Cell) -> Any:
    """The sample conversation, (sample,) float32, as often as it takes; and two threads."""
    import numpy as np
    import soundfile
    import torch

    torch.set_num_threads(2)
    torch.manual_seed(0)
    waveform, _ = soundfile.read(ROOT / "recipes" / "demo" / "conversation.flac", dtype="float32")
    return np.resize(waveform, cell.length * RATE)


def peak() -> float:
    """Largest resident memory of this process, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def settled(steps: list[float]) -> float:
    """Median of the last third, the last step aside, which may be a part of one."""
    whole = steps[:-1] if len(steps) > 1 else steps
    return statistics.median(whole[-max(len(whole) // 3, 1) :])


def ours(cell: Cell, waveform: Any, folder: Path) -> Found:
    """What diarize takes."""
    begun = time.perf_counter()
    from diarize.checkpoint import load_checkpoint
    from diarize.memory import keep_freed_memory

    keep_freed_memory()
    imported = time.perf_counter() - begun
    begun = time.perf_counter()
    diarizer = load_checkpoint(folder)
    found = {"import": imported, "load": time.perf_counter() - begun}
    steps = at_once(diarizer, cell, waveform) if cell.model == "v1" else stepwise(
        diarizer, cell, waveform
    )  # fmt: skip
    found["seconds"] = min(steps) if cell.model == "v1" else settled(steps)
    return found | {"first": found["import"] + found["load"] + steps[0]}


def at_once(diarizer: Any, cell: Cell, waveform: Any) -> list[float]:
    """Seconds of a batch of recordings; an hour is judged in windows."""
    from diarize.inference import InferenceConfig, diarize_waveform

    if cell.batch > 1:
        import torch

        batch = torch.from_numpy(waveform).expand(cell.batch, -1).clone()
        lengths = torch.full((cell.batch,), len(waveform))
        with torch.inference_mode():
            return clock(lambda: diarizer.posterior(batch, lengths))
    window = 90.0 if cell.length >= HOUR else cell.length + 1.0
    config = InferenceConfig(window=window)
    return clock(lambda: diarize_waveform(diarizer, waveform, config=config))


def stepwise(diarizer: Any, cell: Cell, waveform: Any) -> list[float]:
    """Seconds of each step of streams that are fed together."""
    from diarize.stream import feed_together
    from diarize.streaming import StreamingDiarizer

    streams = [StreamingDiarizer(diarizer, cell.latency) for _ in range(cell.batch)]
    piece, steps = round(cell.chunk * RATE), []
    for first in range(0, len(waveform), piece):
        part = waveform[first : first + piece]
        begun = time.perf_counter()
        if len(feed_together(streams, [part] * cell.batch)[0]):
            steps.append(time.perf_counter() - begun)
    return steps


def full_size(model: str) -> Any:
    """A model of the published size, with weights as they are drawn."""
    from diarize.model import Diarizer, DiarizerConfig

    encoder: dict[str, Any] = {"_target_": "diarize.encoder.transformer.Transformer"}
    if model == "nemotron3":
        front_end: dict[str, Any] = {"_target_": "diarize.frontend.stacking.Stacking"}
        encoder |= {"width": 512, "inner": 2048, "num_layers": 31, "activation": "gelu"}
        encoder |= {"pre_norm": True, "input_norm": True, "attention_bias": False}
        encoder |= {"positions": "rotary"}
        config = DiarizerConfig(
            front_end, encoder, num_slots=8, head_width=192, upsampling=8, learned_silence=True
        )
        return Diarizer(config).eval()
    front_end = {"_target_": "diarize.frontend.fastconformer.FastConformer"}
    mel = {"peak_scaling": "item"}
    if model == "v2":
        front_end["num_layers"] = 17
        mel = {"num_mels": 128, "normalization": "none"}
    return Diarizer(DiarizerConfig(front_end | {"mel": mel}, encoder)).eval()


def clock(work: Any) -> list[float]:
    """Wall times of two runs, or of one where it takes long."""
    times = []
    for _ in range(2):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
        if times[0] > 30:
            break
    return times


if __name__ == "__main__":
    main()
