"""Scores against NIST's md-eval-22 itself: all random sessions of a condition in one run of it."""

import re
import subprocess
from dataclasses import astuple
from pathlib import Path

import pytest
from drawn import Drawn, sessions

from diarize.score import CONDITIONS, Condition, SessionScore, score_session
from diarize.turns import Segment, Turn

# Thousands of sessions take longer than a test may.
pytestmark = [pytest.mark.parity, pytest.mark.timeout(0)]

CONDITIONS_TRIED = [*CONDITIONS.values(), Condition(collar=1.0), Condition(skip_overlap=True)]
Found = dict[str, tuple[float, ...]]


def run(script: Path, drawn: dict[str, Drawn], condition: Condition, folder: Path) -> str:
    """What md-eval prints, session by session."""

    def rttm(name: str, turns: list[Turn]) -> str:
        return "".join(
            f"SPEAKER {name} 1 {t.start:.6f} {t.end - t.start:.6f} <NA> <NA> {t.speaker} <NA>\n"
            for t in turns
        )

    texts = {
        "ref": "".join(rttm(name, session.reference) for name, session in drawn.items()),
        "hyp": "".join(rttm(name, session.hypothesis) for name, session in drawn.items()),
        "uem": "".join(
            f"{name} 1 {region.start:.6f} {region.end:.6f}\n"
            for name, session in drawn.items()
            for region in session.uem
        ),
    }
    for kind, text in texts.items():
        (folder / kind).write_text(text)
    command = ["perl", str(script), "-af", "-c", str(condition.collar)]
    command += ["-1"] if condition.skip_overlap else []
    command += ["-r", str(folder / "ref"), "-s", str(folder / "hyp"), "-u", str(folder / "uem")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-300:]
    return done.stdout


def read(printed: str) -> Found:
    """Session -> scored, missed, false and confused seconds."""
    found = {}
    for block in printed.split("*** Performance analysis for Speaker Diarization for ")[1:]:
        seconds = dict(re.findall(r"^ *([A-Z ]+?) =\s*([-\d.]+) secs", block, re.MULTILINE))
        found[block.split()[0].removeprefix("f=")] = tuple(
            float(seconds[f"{kind} TIME"])
            for kind in ("SCORED SPEAKER", "MISSED SPEAKER", "FALARM SPEAKER", "SPEAKER ERROR")
        )
    found.pop("ALL")
    return found


def ours(drawn: dict[str, Drawn], condition: Condition) -> dict[str, SessionScore]:
    return {name: score_session(s[0], s[1], condition, s[2]) for name, s in drawn.items()}


@pytest.mark.parametrize(
    "condition", CONDITIONS_TRIED, ids=lambda c: f"{c.collar}-{c.skip_overlap}"
)
def test_equals_md_eval(condition: Condition, md_eval_22: Path, tmp_path: Path) -> None:
    drawn = sessions()
    if condition == Condition(skip_overlap=True):  # see the last test
        drawn = {name: s for name, s in drawn.items() if not ends_in_overlap(s)}
    scores = ours(drawn, condition)
    # md-eval divides by zero where nothing is scored.
    scored = {name: s for name, s in drawn.items() if scores[name].error.scored > 0}
    theirs = read(run(md_eval_22, scored, condition, tmp_path))
    assert theirs.keys() == scored.keys()
    assert len(theirs) > 0.4 * len(drawn)
    wrong = {
        name: (astuple(scores[name].error), parts)
        for name, parts in theirs.items()
        if astuple(scores[name].error) != pytest.approx(parts, rel=1e-6, abs=2e-6)
    }
    assert wrong == {}


def ends_in_overlap(session: Drawn) -> bool:
    return any(
        sum(turn.start < region.end < turn.end for turn in session.reference) > 1
        for region in session.uem
    )


def test_md_eval_scores_overlap_that_is_to_be_skipped(md_eval_22: Path, tmp_path: Path) -> None:
    # anna  ####     Of an overlap that touches another, md-eval scores what lies before the end of
    # ben    ##      the region: 2-2.5 s, where anna and ben speak, and not only 0-1 s of anna's.
    # ben     #
    # uem   ##.
    reference = [Turn(0, 4, "anna"), Turn(1, 2, "ben"), Turn(2, 3, "ben")]
    drawn = {"s": Drawn(reference, [Turn(0, 4, "x")], [Segment(0, 2.5)])}
    condition = Condition(skip_overlap=True)
    assert read(run(md_eval_22, drawn, condition, tmp_path))["s"] == (2.0, 0.5, 0.0, 0.0)
    assert astuple(ours(drawn, condition)["s"].error) == (1.0, 0.0, 0.0, 0.0)


def test_md_eval_leaves_out_sessions_without_reference(md_eval_22: Path, tmp_path: Path) -> None:
    turns = [Turn(0, 4, "anna")]
    drawn = {name: Drawn(said, turns, [Segment(0, 4)]) for name, said in (("a", turns), ("b", []))}
    assert read(run(md_eval_22, drawn, Condition(), tmp_path)).keys() == {"a"}
    assert astuple(ours(drawn, Condition())["b"].error) == (0.0, 0.0, 4.0, 0.0)


def test_md_eval_divides_by_zero_where_nothing_is_scored(md_eval_22: Path, tmp_path: Path) -> None:
    drawn = {"s": Drawn([Turn(0, 1, "anna")], [Turn(0, 4, "x")], [Segment(0, 4)])}
    with pytest.raises(AssertionError, match="Illegal division by zero"):
        run(md_eval_22, drawn, Condition(collar=1.0), tmp_path)


def test_md_eval_reads_names_and_times_of_a_uem_in_its_own_way(
    md_eval_22: Path, tmp_path: Path
) -> None:
    turns = [Turn(0, 4, "anna")]
    cut = {"talk.left": Drawn(turns, turns, [Segment(0, 1)])}
    assert read(run(md_eval_22, cut, Condition(), tmp_path))["talk.left"][0] == 4.0
    early = {"s": Drawn(turns, turns, [Segment(-1.0, 3.0)])}
    assert read(run(md_eval_22, early, Condition(), tmp_path))["s"][0] == 2.0
