"""Speed, memory and start-up times of this machine, as a table.

    make bench
    .venv/bin/python recipes/bench/bench.py start-up --model exp/mine

All audio comes from the sample conversation, repeated. What each row measures:

- **infer-speed**: seconds of a 10-minute WAV file per second of work, two torch threads and freed
  memory kept, as in `diarize infer`; the best of three after a warm-up. Reading and
  post-processing count, loading the model does not.
- **infer-memory**: largest resident memory of a `diarize infer` process on a 3-hour file.
- **start-up**: wall time of `diarize score --help` and of `diarize check` on a manifest of 1,000
  lines, each with a recording and an RTTM of its own; the best of three. A process that imported
  torch fails the row.
- **stream-hours**: resident memory that a stream of eight hours gains after its first, at a latency
  of 30.4 s, with a tiny model of random weights, whose turns are asked for every minute; what is
  wanted comes to 16 MiB a day.
- **data-wait**: share of the time in which training `conf/small.yaml conf/short.yaml` waited for
  batches, two workers simulating all that those settings ask for: 30-second sessions at three
  speeds, with noise, rooms and telephone lines. From the training's own log, steps 11 to 60.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from process import run
from report import Report, add_json

from diarize.formats.rttm import write_rttm
from diarize.manifest import Session, write_manifest
from diarize.turns import Turn

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "recipes" / "demo"
SAMPLE_RATE = 16000
MEBIBYTE = 2**20


class Row(NamedTuple):
    """One line of the table."""

    name: str
    measured: float
    unit: str
    wanted: str
    is_met: bool


COLUMNS = {"benchmark": "32", "measured": ".4g", "unit": "", "wanted": "", "met": ""}


def main() -> None:
    """Measure what was asked for and print the table."""
    parser = argparse.ArgumentParser(description="Measure speed, memory and start-up times.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(BENCHMARKS)}")
    parser.add_argument("--model", default="default", help="of infer-speed and infer-memory")
    add_json(parser)
    args = parser.parse_args()
    unknown = set(args.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))} is not one of {', '.join(BENCHMARKS)}")
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} processors, load before {load} (an idle machine has 0)\n")
    report = Report("bench", COLUMNS, args.json)
    for name in args.names or BENCHMARKS:
        with tempfile.TemporaryDirectory() as folder:
            for row in BENCHMARKS[name](Path(folder), args.model):
                met = "yes" if row.is_met else "NO"
                report.add(dict(zip(COLUMNS, (*row[:4], met), strict=True)))


def infer_speed(folder: Path, model: str) -> Iterator[Row]:
    """Real-time factor on ten minutes."""
    import torch

    from diarize.memory import keep_freed_memory
    from diarize.model import Diarizer

    torch.set_num_threads(2)
    keep_freed_memory()
    audio = write_audio(folder / "ten_minutes.wav", 600)
    diarizer = Diarizer.from_pretrained(model)
    diarizer(write_audio(folder / "warm_up.wav", 60))
    factor = 600 / best_of_three(lambda: diarizer(audio))
    yield Row("10 minutes, 2 threads", factor, "x real time", ">= 150", factor >= 150)


def infer_memory(folder: Path, model: str) -> Iterator[Row]:
    """Peak memory of three hours, in a process of its own."""
    audio = write_audio(folder / "three_hours.flac", 3 * 3600)
    command = ["infer", str(audio), "--model", model, "--output", str(folder), "--device", "cpu"]
    peak = run([sys.executable, "-m", "diarize", *command])["peak"]
    yield Row("3 hours, peak memory", peak, "MiB", "<= 2048", peak <= 2048)


def start_up(folder: Path, model: str) -> Iterator[Row]:
    """Verbs that answer at once, because they never import torch."""
    del model
    manifest = write_sessions(folder, 1000)
    for name, command in (
        ("diarize score --help", ["score", "--help"]),
        ("diarize check, 1,000 lines", ["check", str(manifest)]),
    ):
        seconds = best_of_three(lambda command=command: finish(diarize(command)))
        probe = diarize(command, "-X", "importtime", stderr=subprocess.PIPE, text=True)
        _, imports = probe.communicate()
        loads_torch = any(line.split("|")[-1].strip() == "torch" for line in imports.splitlines())
        unit = "s, with torch" if loads_torch else "s, no torch"
        yield Row(name, seconds, unit, "< 1, none", seconds < 1 and not loads_torch)


def stream_hours(folder: Path, model: str) -> Iterator[Row]:
    """Does a stream grow?"""
    del folder, model
    from diarize.config import load_config
    from diarize.model import Diarizer
    from diarize.module import TrainingConfig
    from diarize.streaming import StreamingDiarizer

    streaming = ["diarizer.front_end.mel.normalization=none"]
    config = load_config(TrainingConfig, [ROOT / "conf" / "tiny.yaml"], streaming)
    stream = StreamingDiarizer(Diarizer(config.diarizer), "30.4s")
    minute = np.resize(sample(), 60 * SAMPLE_RATE)
    for _ in range(60):
        stream.feed(minute)
        stream.turns()
    begun, after_an_hour = time.perf_counter(), resident_memory()
    for _ in range(7 * 60):
        stream.feed(minute)
        stream.turns()
    factor = 7 * 3600 / (time.perf_counter() - begun)
    growth = (resident_memory() - after_an_hour) / MEBIBYTE
    yield Row("8-hour stream, growth", growth, "MiB", "<= 5", growth <= 5)
    yield Row("8-hour stream, speed", factor, "x real time", "", True)


def data_wait(folder: Path, model: str) -> Iterator[Row]:
    """Does simulation keep up with training?"""
    del model
    experiment = folder / "exp"
    settings = [
        f"data.utterances={DEMO / 'utterances.jsonl'}",
        f"data.noise={write_noises(folder)}",
        f"data.rir={write_rooms(folder)}",
        "data.num_workers=2",
        "data.simulation.num_speakers=[0.05,0.55,0.4]",  # the sample has three voices
        "trainer.max_steps=60",
        "trainer.log_every=5",
    ]
    configs = [str(ROOT / "conf" / name) for name in ("small.yaml", "short.yaml")]
    cache = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    command = ["train", *configs, *settings, "--output", str(experiment)]
    finish(diarize(command, env=cache))
    with next(experiment.rglob("metrics.csv")).open(encoding="utf-8") as file:
        waits = [float(row["data_wait"]) for row in csv.DictReader(file) if row["data_wait"]]
    steady = waits[2:]  # workers start, and fill their queues, during the first rows
    wait = sum(steady) / len(steady)
    yield Row("training, wait for data", 100 * wait, "% of step time", "< 5", wait < 0.05)


BENCHMARKS: dict[str, Callable[[Path, str], Iterator[Row]]] = {
    "infer-speed": infer_speed,
    "infer-memory": infer_memory,
    "start-up": start_up,
    "stream-hours": stream_hours,
    "data-wait": data_wait,
}


def best_of_three(work: Callable[[], object]) -> float:
    """Shortest wall time, seconds."""
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


def resident_memory() -> int:
    """Of this process, bytes, as Linux tells it."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def diarize(arguments: list[str], *python: str, **streams: object) -> subprocess.Popen:
    """A running ``diarize`` command whose results nobody reads."""
    command = [sys.executable, *python, "-m", "diarize", *arguments]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **streams}
    return subprocess.Popen(command, **streams)  # type: ignore[call-overload]


def finish(process: subprocess.Popen) -> None:
    """Wait for a command that must succeed."""
    if process.wait():
        raise SystemExit(f"bench: {' '.join(map(str, process.args))} failed")


def sample() -> np.ndarray:
    """The sample conversation, float32 (sample,)."""
    waveform, _ = soundfile.read(DEMO / "conversation.flac", dtype="float32")
    return waveform


def write_audio(path: Path, duration: int) -> Path:
    """The sample conversation, repeated for so many seconds."""
    waveform = sample()
    left = duration * SAMPLE_RATE
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1) as file:
        while left > 0:
            file.write(waveform[:left])
            left -= len(waveform)
    return path


def write_noises(folder: Path) -> Path:
    """A manifest of five recordings of white noise, 20 seconds each."""
    rng = np.random.default_rng(0)
    noises = []
    for index in range(5):
        audio = folder / f"noise_{index}.wav"
        soundfile.write(audio, rng.normal(0.0, 0.05, 20 * SAMPLE_RATE), SAMPLE_RATE)
        noises.append(Session(audio.stem, audio))
    write_manifest(folder / "noise.jsonl", noises)
    return folder / "noise.jsonl"


def write_rooms(folder: Path) -> Path:
    """A manifest of five rooms with four positions: noise that fades by 60 dB in half a second."""
    rng = np.random.default_rng(1)
    fading = 10 ** (-3 * np.linspace(0.0, 1.0, SAMPLE_RATE // 2)[:, np.newaxis])
    rooms = []
    for index in range(5):
        audio = folder / f"room_{index}.wav"
        response = 0.1 * rng.normal(size=(len(fading), 4)) * fading
        response[0] = 1.0  # the direct path
        soundfile.write(audio, response, SAMPLE_RATE, "FLOAT")
        rooms.append(Session(audio.stem, audio))
    write_manifest(folder / "rir.jsonl", rooms)
    return folder / "rir.jsonl"


def write_sessions(folder: Path, number: int) -> Path:
    """A manifest of one-second recordings, each with an RTTM."""
    waveform = sample()
    sessions = []
    for index in range(number):
        session_id = f"session_{index:04d}"
        audio, rttm = folder / f"{session_id}.wav", folder / f"{session_id}.rttm"
        soundfile.write(audio, waveform[SAMPLE_RATE : 2 * SAMPLE_RATE], SAMPLE_RATE)
        write_rttm(rttm, {session_id: [Turn(0.0, 0.8, "anna"), Turn(0.5, 1.0, "ben")]})
        sessions.append(Session(session_id, audio, duration=1.0, rttm=rttm, num_speakers=2))
    write_manifest(folder / "manifest.jsonl", sessions)
    return folder / "manifest.jsonl"


if __name__ == "__main__":
    main()
