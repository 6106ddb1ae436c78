"""Diarization without speech: sequences of vectors in which unseen classes come, go and overlap.

    python recipes/set_labelling/prepare.py synthetic OUTPUT [--seed N] [--sessions N]
    python recipes/set_labelling/prepare.py digits OUTPUT [--seed N] [--sessions N]

A session has 100 to 150 frames of 0.1 s and a few classes. They take turns of 0.5 to 2.5 s, with
pauses of up to 0.6 s and overlaps of up to 1.2 s; each appears. Of all frames 10 to 20 % are null,
noise alone; of the others 10 to 20 % hold two classes or more. A frame is the sum of what its
classes show, and noise.

``synthetic``: a class is a point on a sphere in 32 dimensions, one of 4,096 for training, 512
for ``dev`` and 512 for ``test_unseen``, each pool drawn for itself; one to four in a session, alike
often. In each turn the point is moved a little. The radius is 5 times the noise of a coordinate,
the noise of a frame 5.7 of them long: whoever knows the points of a session errs in a few percent,
and others have to find them first, from many frames.

``digits``: a class is a handwritten digit (``sklearn.datasets.load_digits``, 8 x 8 pixels of 0 to
16, here 0 to 1), turned by 0, 90, 180 or 270 degrees, mirrored or not, bright or dark on grey, 16
ways; one to three in a session, alike often, no digit twice. Each three frames show another image;
sums are clipped to -1 to 1. Training has 80 of the 96 classes of digits 0 to 5, ``dev`` the other
16. ``test_unseen`` has digits 6 to 9 as they are written, ``test_turned`` all their ways, neither
6 beside 9. Images are split too: seven tenths of those of 0 to 5 for training, the rest halved
between ``dev`` and ``test_seen``. What it shows: handwriting varies, noise does not imitate it, and
the classes of the tests were never seen. What it does not: the classes are few, the images small,
the same 13 people wrote all of them, and a turned digit is not new handwriting. A 0 or a 1 upside
down is as good as itself, so ``dev`` is not wholly unseen.

``test_seen``: training classes in new sessions, for ``digits`` from new images.

OUTPUT holds a manifest for each split and, beside them, ``features/SPLIT.npy`` (float16, (frame,
dim), session after session), ``rttm/SPLIT.rttm`` (seconds of that array, as a recording's), and
``classes.npz`` (``names``, which are the RTTM's speakers, and ``prototypes``, (class, dim), the
points, or the means of training images; of test images where there are no others). Two files a
split and not thousands: a line has its ``offset`` and ``duration``, and its ``session_id`` is field
2 of the RTTM. Session n of a split depends on the seed and n alone: the first 64 lines are what
``--sessions 64`` makes.
"""

import argparse
import json
import os
import shutil
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diarize.activity import to_turns
from diarize.files import in_words
from diarize.frames import FrameGrid
from diarize.manifest import write_features
from diarize.turns import Turn

GRID = FrameGrid(sample_rate=10, hop=1)
"""A row is a sample and a frame."""
FRAMES = (100, 150)
"""Of a session."""
TURN = (5, 25)
PAUSE = (0, 6)
OVERLAP = (2, 12)
"""Frames."""
OVERLAPS = 0.45
"""Share of the turns that begin before the one before has ended."""
DEV, TEST = 256, 512
"""Sessions."""

Frames = NDArray[np.float32]


class Source(ABC):
    """What classes there are and what they show.

    Attributes:
        name: of the verb.
        splits: split -> names of its classes.
        sessions: of training, unless asked otherwise.
        most: classes of a session, at most.
        noise: standard deviation.
    """

    name: str
    splits: dict[str, list[str]]
    sessions: int
    most: int
    noise: float

    @abstractmethod
    def prototypes(self) -> tuple[list[str], Frames]:
        """Names of all classes, and a vector for each, (class, dim)."""

    @abstractmethod
    def show(self, rng: np.random.Generator, split: str, name: str, length: int) -> Frames:
        """A class for the length of a turn, (frame, dim), without noise."""

    def choose(self, rng: np.random.Generator, split: str) -> list[str]:
        """The classes of a session."""
        count = rng.integers(1, self.most, endpoint=True)
        while True:
            names = rng.choice(self.splits[split], count, replace=False).tolist()
            if self.go_together(names):
                return names

    def go_together(self, names: list[str]) -> bool:
        """Whether these may be the classes of one session."""
        return True

    def add(self, frames: Frames) -> Frames:
        """Sums of classes as they are seen."""
        return frames


class Synthetic(Source):
    """Points on a sphere."""

    name = "synthetic"
    sessions = 16384
    most = 4
    noise = 1.0
    dim = 32
    radius = 5.0
    drift = 0.3
    """Length of a turn's own move, in radii."""

    def __init__(self, seed: int) -> None:
        self._points: dict[str, Frames] = {}
        pools = {"train": 4096, "dev": 512, "test": 512}
        names = {pool: [f"{pool}_{n:03d}" for n in range(size)] for pool, size in pools.items()}
        for number, pool in enumerate(pools):
            rng = np.random.default_rng([seed, number])
            points = self.radius * _directions(rng, pools[pool], self.dim)
            self._points |= dict(zip(names[pool], points, strict=True))
        self.splits = {
            "train": names["train"],
            "dev": names["dev"],
            "test_seen": names["train"],
            "test_unseen": names["test"],
        }

    def prototypes(self) -> tuple[list[str], Frames]:
        """The points."""
        return list(self._points), np.stack(list(self._points.values()))

    def show(self, rng: np.random.Generator, split: str, name: str, length: int) -> Frames:
        """The point, moved."""
        moved = self._points[name] + self.drift * self.radius * _directions(rng, 1, self.dim)
        return np.repeat(moved, length, axis=0)


class Digits(Source):
    """Images of handwritten digits in 16 ways."""

    name = "digits"
    sessions = 4096
    most = 3
    noise = 0.15
    hold = 3
    """Frames that show one image."""
    ways = [
        f"{turned}{mirrored}{contrast}"
        for turned in ("up", "left", "down", "right")
        for mirrored in ("", "_mirrored")
        for contrast in ("", "_dark")
    ]

    def __init__(self, seed: int) -> None:
        from sklearn.datasets import load_digits

        images, digits = load_digits(return_X_y=True)
        self._images: dict[str, dict[int, Frames]] = {"train": {}, "dev": {}, "test_seen": {}}
        self._images |= {"test_unseen": {}, "test_turned": {}}
        rng = np.random.default_rng(seed)
        for digit in range(10):
            own = rng.permutation(images[digits == digit].astype(np.float32).reshape(-1, 8, 8) / 16)
            if digit >= 6:
                self._images["test_unseen"][digit] = self._images["test_turned"][digit] = own
                continue
            ends = len(own) * 7 // 10, len(own) * 17 // 20
            for split, part in zip(self._images, np.split(own, ends), strict=False):
                self._images[split][digit] = part
        both = {(d, w): f"{d}_{way}" for d in range(6) for w, way in enumerate(self.ways)}
        dev = [name for (digit, way), name in both.items() if (digit + way) % 6 == 5]
        train = [name for name in both.values() if name not in dev]
        self.splits = {
            "train": train,
            "dev": dev,
            "test_seen": train,
            "test_unseen": [f"{digit}_up" for digit in range(6, 10)],
            "test_turned": [f"{digit}_{way}" for digit in range(6, 10) for way in self.ways],
        }

    def prototypes(self) -> tuple[list[str], Frames]:
        """Means of images, those of training where there are any."""
        names = [f"{digit}_{way}" for digit in range(10) for way in self.ways]
        splits = ["train" if int(name[0]) < 6 else "test_turned" for name in names]
        means = [self._seen(s, n).mean(axis=0) for s, n in zip(splits, names, strict=True)]
        return names, np.stack(means)

    def show(self, rng: np.random.Generator, split: str, name: str, length: int) -> Frames:
        """One image after another."""
        images = self._seen(split, name)
        drawn = rng.integers(len(images), size=-(-length // self.hold))
        return images[np.repeat(drawn, self.hold)[:length]]

    def go_together(self, names: list[str]) -> bool:
        """Different digits, and not 6 beside 9, which turned are the same."""
        shown = {name[0] for name in names}
        return len(shown) == len(names) and not shown >= {"6", "9"}

    def add(self, frames: Frames) -> Frames:
        """Clipped, as a screen does."""
        return frames.clip(-1.0, 1.0)

    def _seen(self, split: str, name: str) -> Frames:
        """The images of a class, (image, pixel)."""
        digit, turned, *changes = name.split("_")
        images = self._images[split][int(digit)]
        if "mirrored" in changes:
            images = images[:, :, ::-1]
        images = np.rot90(images, ("up", "left", "down", "right").index(turned), axes=(1, 2))
        return images.reshape(len(images), -1) * (-1 if "dark" in changes else 1)


def timeline(rng: np.random.Generator, num_classes: int) -> tuple[int, list[tuple[int, int, int]]]:
    """The number of frames of a session, and its turns: first frame, the one after the last, class.

    Drawn until every class has a turn. Turns of one class do not overlap.
    """
    while True:
        num_frames = int(rng.integers(FRAMES[0], FRAMES[1], endpoint=True))
        begin = int(rng.integers(*PAUSE, endpoint=True))
        free = np.zeros(num_classes, dtype=int)  # from which frame on a class is silent
        turns: list[tuple[int, int, int]] = []
        while begin < num_frames:
            silent = np.flatnonzero(free <= begin)
            others = silent[silent != turns[-1][2]] if turns else silent
            shown = int(rng.choice(others if others.size else silent))
            end = min(begin + int(rng.integers(*TURN, endpoint=True)), num_frames)
            turns.append((begin, end, shown))
            free[shown] = end
            early = int(rng.integers(*OVERLAP, endpoint=True))
            # A class stays free for the next, and the next begins after this one.
            if rng.random() < OVERLAPS and early < end - begin and (free <= end - early).any():
                begin = end - early
            else:
                begin = end + int(rng.integers(*PAUSE, endpoint=True))
        if {shown for _, _, shown in turns} == set(range(num_classes)):
            return num_frames, turns


def session(
    source: Source, split: str, rng: np.random.Generator
) -> tuple[Frames, NDArray[np.bool_], list[str]]:
    """Frames (frame, dim), activity (frame, class) and the names of the classes."""
    names = source.choose(rng, split)
    num_frames, turns = timeline(rng, len(names))
    shown = [source.show(rng, split, names[c], end - begin) for begin, end, c in turns]
    clean = np.zeros((num_frames, shown[0].shape[1]), dtype=np.float32)
    activity = np.zeros((num_frames, len(names)), dtype=bool)
    for (begin, end, column), part in zip(turns, shown, strict=True):
        clean[begin:end] += part
        activity[begin:end, column] = True
    noise = source.noise * rng.standard_normal(clean.shape, dtype=np.float32)
    return source.add(clean) + noise, activity, names


def write_split(folder: Path, source: Source, split: str, count: int, seed: int) -> str:
    """Write features, RTTM and manifest; a line that says what was made."""
    number = list(source.splits).index(split)
    frames = null = overlap = 0

    def made() -> Iterator[tuple[NDArray[np.float16], list[Turn]]]:
        nonlocal frames, null, overlap
        for index in range(count):
            rng = np.random.default_rng([seed, 100 + number, index])  # pools are below 100
            rows, activity, names = session(source, split, rng)
            present = activity.sum(axis=1)
            frames += len(rows)
            null += int((present == 0).sum())
            overlap += int((present > 1).sum())
            yield rows.astype(np.float16), to_turns(activity, GRID, names)

    write_features(folder, split, made(), GRID.frame_shift)
    shares = f"{null / frames:.1%} null, {overlap / (frames - null):.1%} of the rest overlap"
    return f"{split}: {count} sessions, {GRID.time_at(frames) / 3600:.1f} h, {shares}"


def _directions(rng: np.random.Generator, count: int, dim: int) -> Frames:
    """Points on the unit sphere, (point, dim)."""
    drawn = rng.standard_normal((count, dim)).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def main() -> int:
    """Write a folder, whole or not at all; one that is there with the same settings is left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=[Synthetic.name, Digits.name])
    parser.add_argument("output", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sessions", type=int, help="for training; default 16384, of digits 4096")
    parser.add_argument("--dev", type=int, default=DEV, help=f"for validation; default {DEV}")
    parser.add_argument("--test", type=int, default=TEST, help=f"of each test; default {TEST}")
    args = parser.parse_args()
    kind = {Synthetic.name: Synthetic, Digits.name: Digits}[args.kind]
    if args.sessions is None:
        args.sessions = kind.sessions
    counts = {"train": args.sessions, "dev": args.dev}
    if min(args.seed, args.sessions - 1, args.dev - 1, args.test - 1) < 0:
        parser.error("--seed is 0 or more, and every number of sessions 1 or more")
    settings = {name: value for name, value in vars(args).items() if name != "output"}
    made = args.output / "settings.json"
    if args.output.is_dir() and any(args.output.iterdir()):
        there = json.loads(made.read_text(encoding="utf-8")) if made.exists() else "something else"
        if there == settings:
            print(f"{args.output}: is there", file=sys.stderr)
            return 0
        print(
            f"prepare.py: {args.output} holds {there}, but {settings} is asked for. "
            "Name another folder, or remove it.",
            file=sys.stderr,
        )
        return 1
    beside = args.output.with_name(f".{args.output.name}.{os.getpid()}.tmp")
    try:
        source = kind(args.seed)
        for split in source.splits:
            count = counts.get(split, args.test)
            print(write_split(beside, source, split, count, args.seed), file=sys.stderr)
        names, prototypes = source.prototypes()
        np.savez(beside / "classes.npz", names=names, prototypes=prototypes)
        (beside / made.name).write_text(json.dumps(settings) + "\n", encoding="utf-8")
        beside.replace(args.output)
    except OSError as error:
        print(f"prepare.py: {in_words(error)}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
