"""Tuning post-processing: how long for hours of audio, and whether more search would find more.

    .venv/bin/python recipes/bench/tuning.py
    .venv/bin/python recipes/bench/tuning.py --hours 100 --draws 500 5000

Sessions of five minutes and four speakers are made up, no model is needed: turns that follow and
overlap each other, and posteriors that know them as a model does, with noise that lasts, soft
boundaries, and now and then two speakers for one. ``diarize tune`` is then run on them as a user
runs it, in a process of its own, and its seconds by the clock and of a core, largest resident
memory and answer printed, for each number of draws.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diarize.activity import from_turns
from diarize.formats.posteriors import Posteriors, write_posteriors
from diarize.formats.rttm import write_rttm
from diarize.frames import FrameGrid
from diarize.manifest import Session, write_manifest
from diarize.turns import Turn

SECONDS, SPEAKERS = 300.0, 4
GRID = FrameGrid(16000, 1280)


def main() -> None:
    """Make sessions up, tune, and print a line for each number of draws."""
    parser = argparse.ArgumentParser(description="Time, memory and outcome of tuning.")
    parser.add_argument("--hours", type=float, default=10.0)
    parser.add_argument("--draws", type=int, nargs="+", default=[500])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        manifest = make_up(folder, round(args.hours * 3600 / SECONDS))
        print(
            "| hours | draws | tried | seconds | of a core | peak MiB | before | tuned | left out |"
        )
        print("|---|---|---|---|---|---|---|---|---|")
        for draws in args.draws:
            command = [sys.executable, "-m", "diarize", "tune", str(manifest), "--format", "json"]
            command += ["--posteriors", name, "--draws", str(draws)]
            began = time.monotonic()
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            assert process.stdout is not None
            found = json.loads(process.stdout.read())
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            seconds = time.monotonic() - began
            cells = [f"{args.hours:g}", draws, found["num_tried"], f"{seconds:.0f}"]
            cells += [f"{usage.ru_utime + usage.ru_stime:.0f}"]
            cells += [usage.ru_maxrss // 1024, *(f"{der:.2f}" for der in found["der"].values())]
            print("|", " | ".join(map(str, cells)), "|", flush=True)


def make_up(folder: Path, count: int) -> Path:
    """Write so many sessions; returns their manifest, beside which all else lies."""
    sessions, references = [], {}
    for number in range(count):
        rng = np.random.default_rng(number)
        name = f"s{number:04d}"
        references[name] = conversation(rng)
        posterior = judged(references[name], rng)
        span = (GRID.frame_shift, 0.0, SECONDS)
        write_posteriors(folder / f"{name}.npz", Posteriors(posterior, *span))
        rttm = folder / "reference.rttm"
        sessions.append(Session(name, folder / f"{name}.wav", duration=SECONDS, rttm=rttm))
    write_rttm(folder / "reference.rttm", references)
    write_manifest(folder / "manifest.jsonl", sessions)
    return folder / "manifest.jsonl"


def conversation(rng: np.random.Generator) -> list[Turn]:
    """Turns of 2.5 s on average; every third begins while another speaks."""
    turns, at, speaker = [], 0.0, 0
    while at < SECONDS - 1:
        end = min(at + 0.3 + rng.gamma(1.5, 1.5), SECONDS)
        turns.append(Turn(round(at, 3), round(end, 3), f"speaker_{speaker}"))
        speaker = (speaker + rng.integers(1, SPEAKERS)) % SPEAKERS
        at = max(end + rng.normal(0.3, 0.8), at + 0.1)
    return turns


def judged(turns: list[Turn], rng: np.random.Generator) -> NDArray[np.float32]:
    """(frame, slot), what a model might say of them."""
    truth = from_turns(turns, GRID, GRID.num_frames(round(SECONDS * 16000)), SPEAKERS).matrix
    logits = 7.0 * smooth(truth, 5) - 3.0
    for frame in rng.integers(len(logits), size=8):  # two speakers for one, for a while
        span = slice(frame, frame + 20)
        one, other = rng.permutation(SPEAKERS)[:2]
        logits[span, other] = np.maximum(logits[span, one] - 1.0, logits[span, other])
    logits += 1.8 * smooth(rng.normal(size=logits.shape), 5) * np.sqrt(5)
    posterior: NDArray[np.float32] = (1 / (1 + np.exp(-logits))).astype(np.float32)
    return posterior


def smooth(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """(frame, slot), means over so many frames."""
    kernel = np.full(width, 1 / width)
    columns = [np.convolve(column, kernel, mode="same") for column in values.T]
    return np.stack(columns, axis=1)


if __name__ == "__main__":
    main()
