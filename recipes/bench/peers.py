"""Ours beside NeMo and transformers on the same work and equal sizes: how much faster, how light.

    make bench-peers
    .venv/bin/python recipes/bench/peers.py --peers .peers/bin/python v1/60 start

Weights are drawn at random in the published sizes, the audio is the sample conversation, repeated;
float32, two threads, each measurement a process of its own, ours and theirs in turns (A B A B,
``--rounds``), so that ratios can be trusted where seconds cannot. Rows in `HEAVY` are measured
where they are named, or with ``--heavy``.

- **start**: wall time of a command, from nothing imported to the RTTM of ten seconds of audio.
  Files that were just written are in the system's cache.
- **v1, v2, nemotron3**: see ``published.py``; seconds of a recording, or of a step of a stream.
- **files**: wall time of one command that diarizes recordings of 3 to 60 seconds (``--files``).
- **train**: a step of v1 on two sessions of 45 seconds, see ``step.py``.
- **packages, disk**: what an installation brings beyond torch, see ``install.py``; MiB.
- **wanted**: the ratio that we aim for, and of how many times less memory.
- **of matrix rate, of bandwidth**: what was reached of the operations and bytes a second that this
  machine can do, measured just before (``limits.py``), if ``count.py`` counts them. Caches can make
  the latter more than 1.
"""

import argparse
import functools
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import published
import step
from bench import write_audio
from process import ask, run
from report import Found, Report, add_json, in_turns

HERE = Path(__file__).parent
PEER_MODELS = str(published.PEER_MODELS)
TRAIN = "base/2x45"


class Wanted(NamedTuple):
    """How many times faster than the peer, and with how many times less memory."""

    faster: float
    lighter: float | None = None

    def __str__(self) -> str:
        lighter = "" if self.lighter is None else f", memory {self.lighter:g}"
        return f"{self.faster:g}{lighter}"


ROWS = {
    "start": Wanted(4),
    "packages": Wanted(4),
    "disk": Wanted(2),
    "v1/60": Wanted(1.5),
    "v1/60x4": Wanted(1.5),
    "v2/1.04s": Wanted(3),
    "v2/0.32s": Wanted(3),
    "v2/default": Wanted(1),
    "nemotron3/30.4s": Wanted(1.5),
    "nemotron3/1.04s": Wanted(1.5),
    "nemotron3/0.32s": Wanted(1.5),
    "files": Wanted(3),
    "train": Wanted(1.5, 2),
    "v1/600": Wanted(8, 6),
    "v1/3600": Wanted(1),
    "v2/1.04sx32": Wanted(4),
}
HEAVY = ("v1/600", "v1/3600", "v2/1.04sx32")
"""Minutes each, and 14 GB of NeMo's for ten minutes at once."""

COLUMNS = {"work": "", "ours": ".3f", "peer": ".3f", "ratio": ".2f", "wanted": "", "met": ""}
COLUMNS |= {"ours MiB": ".0f", "peer MiB": ".0f", "lighter": ".2f", "GFLOP": ".1f"}
COLUMNS |= {"of matrix rate": ".0%", "GB moved": ".2f", "of bandwidth": ".0%"}


def main() -> None:
    """Measure, and print a row for each."""
    parser = argparse.ArgumentParser(description="Ours beside NeMo and transformers.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--peers", metavar="PYTHON", required=True, help="that has both")
    parser.add_argument("--rounds", type=int, default=2, help="of both (default: 2)")
    parser.add_argument("--files", type=int, default=24, help="recordings (default: 24)")
    parser.add_argument("--heavy", action="store_true", help="also what takes long")
    add_json(parser)
    args = parser.parse_args()
    unknown = set(args.rows) - set(ROWS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))} is not one of {', '.join(ROWS)}")
    usual = [name for name in ROWS if args.heavy or name not in HEAVY]
    report = Report("peers", COLUMNS, args.json)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args.peers, Path(folder), args.rounds, args.files)
        for name in args.rows or usual:
            ours, theirs = bench.compare(name)
            report.add(row(name, ours, theirs) | reached(name, ours, bench.limits))


class Bench:
    """What measures both.

    Args:
        peers: the Python that has them.
        folder: for models and recordings.
        rounds: how often both are measured.
        files: recordings of the row of that name.

    Attributes:
        limits: of the machine, before the last row.
    """

    def __init__(self, peers: str, folder: Path, rounds: int, files: int) -> None:
        self._peers, self._folder, self._rounds, self._files = peers, folder, rounds, files
        self.limits: Found = {}

    def compare(self, name: str) -> tuple[Found, Found | None]:
        """Ours and theirs, ``seconds`` and ``peak``; None where peers cannot do it."""
        self.limits = ask([sys.executable, str(HERE / "limits.py")])
        if name == "train":
            ours, theirs = step.compare(TRAIN, self._peers, self._rounds, ["--steps", "2"])
            assert theirs is not None
            return ours | {"seconds": ours["step"]}, theirs | {"seconds": theirs["step"]}
        if name in ("packages", "disk"):
            key = {"packages": "packages", "disk": "MiB"}[name]
            both = [(sys.executable, "diarize"), (self._peers, "nemo_toolkit[asr]")]
            asked = [ask([python, str(HERE / "install.py"), what]) for python, what in both]
            return {"seconds": asked[0][key]}, {"seconds": asked[1][key]}
        if name in ("start", "files"):
            return in_turns(*self._commands(name), self._rounds)
        return published.compare(name, self._peers, self._folder, self._rounds)

    def _commands(self, name: str) -> tuple[Callable[[], Found], Callable[[], Found]]:
        """Ours and NeMo's, on the same recordings, v1."""
        native, archive = published.native("v1", self._folder), self._folder / "v1.nemo"
        if not archive.exists():
            ask([self._peers, PEER_MODELS, "write", str(archive)])
        number = self._files
        seconds = [10] if name == "start" else [3 + 57 * n // number for n in range(number)]
        audio = self._recordings(name, seconds)
        options = ["--model", str(native), "--device", "cpu"]
        ours = [sys.executable, "-m", "diarize", "infer", *audio, *options]
        ours += ["--output", str(self._folder / "ours")]
        theirs = [self._peers, PEER_MODELS, "diarize", str(archive), str(self._folder / "theirs")]
        return lambda: run(ours), lambda: run([*theirs, *audio])

    def _recordings(self, name: str, seconds: list[int]) -> list[str]:
        """The sample conversation for so many seconds each."""
        paths = [self._folder / f"{name}_{number}.wav" for number in range(len(seconds))]
        return [str(write_audio(path, lasts)) for path, lasts in zip(paths, seconds, strict=True)]


def row(name: str, ours: Found, theirs: Found | None) -> dict[str, Any]:
    """What is told of both."""
    told: dict[str, Any] = {"work": name, "ours": ours["seconds"], "ours MiB": ours.get("peak")}
    if theirs is None:
        return told
    wanted = ROWS[name]
    told |= {"peer": theirs["seconds"], "peer MiB": theirs.get("peak"), "wanted": str(wanted)}
    told["ratio"] = theirs["seconds"] / ours["seconds"]
    met = told["ratio"] >= wanted.faster
    if "peak" in ours and "peak" in theirs:
        told["lighter"] = theirs["peak"] / ours["peak"]
        met = met and told["lighter"] >= (wanted.lighter or 0)
    return told | {"met": "yes" if met else "NO"}


def reached(name: str, ours: Found, limits: Found) -> dict[str, float]:
    """How near a model's work comes to what the machine can do."""
    if "/" not in name or name in published.ALONE:
        return {}
    counted = work(name)
    gflop, moved = counted.operations / 1e9, counted.bytes_moved / 1e9
    rates = gflop / ours["seconds"] / limits["GFLOP/s"], moved / ours["seconds"] / limits["GB/s"]
    return {
        "GFLOP": gflop,
        "of matrix rate": rates[0],
        "GB moved": moved,
        "of bandwidth": rates[1],
        **limits,
    }


def work(name: str) -> Any:
    """What a cell of ``published.py`` asks for."""
    cell = published.Cell.parse(name)
    shapes = shapes_of(cell.model)
    if cell.model == "v1":
        return shapes.at_once(cell.length, cell.batch)
    return shapes.step(cell.latency, cell.batch)


@functools.cache
def shapes_of(model: str) -> Any:
    """A published model without its numbers."""
    import torch
    from count import Shapes

    with torch.device("meta"):
        return Shapes(published.full_size(model))


if __name__ == "__main__":
    main()
