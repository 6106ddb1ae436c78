"""A page of three hours and 5,000 turns: its size, and how long a browser needs for it.

    python recipes/bench/view.py [PAGE]

The sound is the sample conversation, repeated; the turns of six speakers are drawn at random, the
hypothesis is the reference with shifted boundaries, missed turns and confused speakers, and four
slots have posteriors every 80 ms. PAGE keeps the page. Without Chromium, size and time of writing
alone are told. "Redraw" is what the script takes for all that is seen, "frame" the time from one
frame to the next while every frame zooms or scrolls: a screen allows 16.7 ms at best.
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile
from browser import chromium, find_chromium

from diarize.formats.posteriors import Posteriors, write_posteriors
from diarize.manifest import Session
from diarize.turns import Turn, in_order
from diarize.view import write_page

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "recipes" / "demo" / "conversation.flac"
HOURS = 3
NUM_TURNS = 5000
FRAME_SHIFT = 0.08

MOVES = """(async () => {
  const stage = document.getElementById("stage");
  const frame = () => new Promise(requestAnimationFrame);
  const place = { clientX: 700, clientY: 500, cancelable: true };
  const wheel = (deltaX, deltaY, ctrlKey) => document.getElementById("turns").dispatchEvent(
    new WheelEvent("wheel", { deltaX, deltaY, ctrlKey, ...place }));
  const redraws = [], frames = [];
  for (let i = 0; i < 120; i++) {
    const begin = performance.now();
    if (i < 80) wheel(0, i < 40 ? -100 : 100, true);
    else wheel(60, 0, false);
    if (i === 80) for (let n = 0; n < 20; n++) wheel(0, -100, true);
    await frame();
    await frame();
    redraws.push(Number(stage.dataset.redraw));
    frames.push((performance.now() - begin) / 2);
  }
  return { redraws, frames };
})()"""


def main() -> None:
    """Make the page and measure it."""
    parser = argparse.ArgumentParser(description="Measure a page of three hours.")
    parser.add_argument("page", nargs="?", type=Path, help="keeps the page")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        page = args.page or Path(folder) / "page.html"
        seconds = make(page, Path(folder))
        print(f"written in {seconds:.0f} s: {page.stat().st_size / 2**20:.1f} MiB")
        binary = find_chromium()
        if binary is None:
            print("no Chromium is installed; nothing is opened")
            return
        with chromium(binary) as browser:
            load = browser.open(page, "document.getElementById('session').dataset.ready")
            times = browser.run(MOVES)
            assert browser.complaints == []
        print(f"loaded in {load:.2f} s")
        for name in ("redraws", "frames"):
            values = np.array(times[name])
            most = f"{np.quantile(values, 0.95):.1f} ms for 95 of 100"
            print(
                f"{name}: {np.median(values):.1f} ms in the middle, {most}, {values.max():.1f} ms"
            )


def make(page: Path, folder: Path) -> float:
    """Write the page; returns the seconds that took."""
    reference, hypothesis = conversation(np.random.default_rng(7))
    signal, rate = soundfile.read(DEMO, dtype="float32")
    audio = folder / "audio.flac"
    with soundfile.SoundFile(audio, "w", rate, 1) as file:
        for _ in range(-(-HOURS * 3600 * rate // len(signal))):
            file.write(signal)
    num_frames = round(HOURS * 3600 / FRAME_SHIFT)
    posterior = np.random.default_rng(8).beta(0.2, 2.0, (num_frames, 4)).astype(np.float32)
    for turn in hypothesis:
        slot = int(turn.speaker[-1])
        if slot < 4:
            posterior[round(turn.start / FRAME_SHIFT) : round(turn.end / FRAME_SHIFT), slot] = 0.97
    lasts = len(posterior) * FRAME_SHIFT
    write_posteriors(folder / "long.npz", Posteriors(posterior, FRAME_SHIFT, 0.0, lasts))
    begin = time.monotonic()
    write_page(
        page,
        {"long": hypothesis},
        {"long": reference},
        recordings={"long": Session("long", audio, duration=HOURS * 3600.0)},
        posteriors={"long": folder / "long.npz"},
        show=True,
    )
    return time.monotonic() - begin


def conversation(rng: np.random.Generator) -> tuple[list[Turn], list[Turn]]:
    """Reference and hypothesis of so many turns each."""
    starts = np.sort(rng.uniform(0.0, HOURS * 3600 - 10, NUM_TURNS))
    lengths = rng.gamma(2.0, 1.2, NUM_TURNS)
    speakers = rng.integers(6, size=NUM_TURNS)
    reference, hypothesis = [], []
    for start, length, speaker in zip(starts, lengths, speakers, strict=True):
        turn = Turn(float(start), float(start + length), f"person {speaker}")
        reference.append(turn)
        heard = rng.integers(6) if rng.random() < 0.08 else speaker
        early, late = rng.normal(0.0, 0.15, 2)
        begin = max(turn.start + early, 0.0)
        end = max(turn.end + late, begin + 0.2)
        hypothesis.append(replace(turn, start=begin, end=end, speaker=f"speaker_{heard}"))
    return in_order(reference), in_order(hypothesis)


if __name__ == "__main__":
    main()
