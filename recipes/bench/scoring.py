"""Scoring: how long ten thousand sessions take, and how long other scorers take for some of them.

    .venv/bin/python recipes/bench/scoring.py
    .venv/bin/python recipes/bench/scoring.py --sessions 1000 --sample 50 --collar 0

A session is ten minutes of four speakers: 100 turns of the reference, and nearly as many found. The
peers score the first sessions alone, and ours the same before and after each of them, as the
machine's speed varies; the ratio is to the mean of both. The last two rows are ours on all
sessions: from turns in memory, and ``diarize score`` on two RTTM files, from its start to its
table. All run in one process and one thread.

- **pyannote.metrics**: DiarizationErrorRate on annotations that are there before the clock starts.
- **md-eval-22**: one run of NIST's script for all, from RTTM and UEM files, per-session figures
  included. The script is Debian's (``apt install sctk``), or ``md-eval-22.pl`` on the PATH.
- **meeteval md_eval, dscore**: its two ways to the same script, run for each and once for all.
- **DER**: of the sample, by md-eval's rules; pyannote.metrics maps speakers otherwise.
"""

import argparse
import logging
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diarize.formats.rttm import write_rttm
from diarize.formats.uem import write_uem
from diarize.score import Condition, score_sessions
from diarize.turns import Segment, Turn, in_order, merge

DEBIAN = Path("/usr/lib/sctk/bin/md-eval.pl")
LENGTH, TURNS, SPEAKERS = 600.0, 100, 4

Sessions = dict[str, list[Turn]]
Peer = Callable[[], float]
"""Scores the sample and gives its DER."""


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description="Speed of scoring, beside others'.")
    parser.add_argument("--sessions", type=int, default=10_000, help="default 10000")
    parser.add_argument("--sample", type=int, default=200, help="that peers score; default 200")
    parser.add_argument("--collar", type=float, default=0.25, help="default 0.25")
    args = parser.parse_args()
    logging.disable(logging.WARNING)  # meeteval tells what is meant here
    print("| scorer | sessions | seconds | ms a session | DER % | ratio |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        beside_peers(args.sample, args.collar, Path(folder))
        of_all(args.sessions, args.collar, Path(folder))


def beside_peers(count: int, collar: float, folder: Path) -> None:
    """The rows of the sample, which is all that is in memory."""
    references, hypotheses = drawn(count)
    uem = {name: [Segment(0.0, LENGTH)] for name in references}
    files = [folder / name for name in ("ref.rttm", "hyp.rttm", "all.uem")]
    write_rttm(files[0], references)
    write_rttm(files[1], hypotheses)
    write_uem(files[2], uem)

    def ours() -> float:
        return 100 * score_sessions(references, hypotheses, Condition(collar), uem).total.der

    for name, peer in peers(references, hypotheses, files, collar, folder).items():
        before, der = timed(ours)
        seconds, theirs = timed(peer)
        after, _ = timed(ours)
        mean = (before + after) / 2
        row("ours", count, mean, der)
        row(name, count, seconds, theirs, seconds / mean)


def of_all(count: int, collar: float, folder: Path) -> None:
    """The rows of all sessions."""
    references, hypotheses = drawn(count)
    seconds, report = timed(lambda: score_sessions(references, hypotheses, Condition(collar)))
    row("ours, in memory", count, seconds, 100 * report.total.der)
    files = [folder / "all.ref.rttm", folder / "all.hyp.rttm"]
    write_rttm(files[0], references)
    write_rttm(files[1], hypotheses)
    command = [sys.executable, "-m", "diarize", "score", *map(str, files), "--collar", str(collar)]
    seconds, _ = timed(lambda: subprocess.run(command, check=True, capture_output=True))
    row("ours, the command", count, seconds)


def row(
    name: str, sessions: int, seconds: float, der: float | None = None, ratio: float | None = None
) -> None:
    """Print a line of the table."""
    cells = [name, str(sessions), f"{seconds:.2f}", f"{1000 * seconds / sessions:.2f}"]
    cells += ["" if der is None else f"{der:.4f}", "" if ratio is None else f"{ratio:.0f}"]
    print("| " + " | ".join(cells) + " |", flush=True)


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a call takes, and what it gives."""
    start = time.perf_counter()
    found = run()
    return time.perf_counter() - start, found


def drawn(count: int) -> tuple[Sessions, Sessions]:
    """References, and hypotheses that lose, move and confuse turns."""
    generator = random.Random(0)
    each = LENGTH * SPEAKERS / TURNS
    references, hypotheses = {}, {}
    for number in range(count):
        reference, hypothesis = [], []
        for turn in range(TURNS):
            speaker, place = turn % SPEAKERS, turn // SPEAKERS
            start = round(each * (place + generator.uniform(0, 0.5)), 3)
            end = round(start + min(generator.expovariate(0.25) + 0.2, each / 2), 3)
            reference.append(Turn(start, end, f"speaker{speaker}"))
            moved = [round(time + generator.gauss(0, 0.2), 3) for time in (start, end)]
            if generator.random() < 0.1:
                speaker = generator.randrange(SPEAKERS + 1)
            if generator.random() < 0.95 and 0 < moved[0] < moved[1] < LENGTH:
                hypothesis.append(Turn(moved[0], moved[1], f"{speaker}"))
        references[f"session{number:05d}"] = in_order(reference)
        hypotheses[f"session{number:05d}"] = merge(hypothesis)
    return references, hypotheses


def peers(
    references: Sessions, hypotheses: Sessions, files: list[Path], collar: float, folder: Path
) -> dict[str, Peer]:
    """Those that are there; one line on standard error for each that is not."""
    found: dict[str, Peer] = {}
    try:
        found["pyannote.metrics"] = by_pyannote(references, hypotheses, collar)
    except ImportError as error:
        print(f"pyannote.metrics is left out: {error}", file=sys.stderr)
    script = md_eval(folder)
    if script is None:
        print("md-eval-22 is left out: install perl, and Debian's sctk", file=sys.stderr)
        return found
    found["md-eval-22"] = by_md_eval(script, files, collar)
    try:
        found |= by_meeteval(files, collar)
    except ImportError as error:
        print(f"meeteval is left out: {error}", file=sys.stderr)
    return found


def by_pyannote(references: Sessions, hypotheses: Sessions, collar: float) -> Peer:
    """The total over sessions."""
    from pyannote.core import Annotation, Timeline
    from pyannote.core import Segment as Stretch
    from pyannote.metrics.diarization import DiarizationErrorRate

    def annotation(turns: list[Turn]) -> Annotation:
        made = Annotation()
        for track, turn in enumerate(turns):
            made[Stretch(turn.start, turn.end), track] = turn.speaker
        return made

    sessions = [(annotation(references[n]), annotation(hypotheses[n])) for n in references]
    uem = Timeline([Stretch(0.0, LENGTH)])

    def run() -> float:
        metric = DiarizationErrorRate(collar=2 * collar)
        for reference, hypothesis in sessions:
            metric(reference, hypothesis, uem=uem)
        return 100 * abs(metric)

    return run


def md_eval(folder: Path) -> Path | None:
    """NIST's script, with six decimals, where meeteval looks for it too."""
    if shutil.which("perl") is None:
        return None
    known = shutil.which("md-eval-22.pl")
    if known is not None or not DEBIAN.exists():
        return None if known is None else Path(known)
    script = folder / "md-eval-22.pl"
    script.write_text(DEBIAN.read_text().replace("=%10.2f secs", "=%f secs"))
    script.chmod(0o755)
    os.environ["PATH"] = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return script


def by_md_eval(script: Path, files: list[Path], collar: float) -> Peer:
    """One run; its last block is of all sessions."""
    command = ["perl", str(script), "-af", "-c", str(collar)]
    for option, file in zip(("-r", "-s", "-u"), files, strict=True):
        command += [option, str(file)]

    def run() -> float:
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        return float(re.findall(r"DIARIZATION ERROR = ([\d.]+) percent", said)[-1])

    return run


def by_meeteval(files: list[Path], collar: float) -> dict[str, Peer]:
    """md-eval with the UEM, and dscore's way, in the union of extents."""
    from meeteval.der import md_eval as md
    from meeteval.der import nryant_dscore as ds
    from meeteval.io import RTTM, UEM

    reference, hypothesis = RTTM.load(files[0]), RTTM.load(files[1])
    uem = UEM.load(files[2])

    def total(errors: dict[str, Any]) -> float:
        return 100 * float(sum(errors.values()).error_rate)

    return {
        "meeteval md_eval": lambda: total(
            md.md_eval_22_multifile(reference, hypothesis, collar, uem=uem)
        ),
        "meeteval dscore": lambda: total(ds.dscore_multifile(reference, hypothesis, collar)),
    }


if __name__ == "__main__":
    main()
