"""Passports: what stays the same, and what tells two results apart."""

from dataclasses import replace

import pytest

from diarize.formats.rttm import Columns
from diarize.score.passport import Passport, Source, digest, digest_regions
from diarize.turns import Segment, Turn

ENVIRONMENT = {
    "command": ["/usr/bin/diarize", "score", "my ref", "hyp"],
    "commit": "0123456789abcdef",
    "packages": {"diarize": "0.1.0", "numpy": "2.0", "scipy": "1.0", "torch": "2.11"},
}
PASSPORT = Passport(
    Source("ref", "a" * 64, {"ref/s.rttm": "1" * 64}),
    Source("hyp", "b" * 64, {"hyp/s.rttm": "2" * 64, "hyp/t.rttm": "3" * 64}),
    None,
    "union of reference and hypothesis extents",
    2,
    ENVIRONMENT,
)


def of(*turns: Turn) -> dict[str, Columns]:
    return {"s": Columns.of(turns)}


ANN, BEN = Turn(0, 1, "ann"), Turn(0, 1, "ben")


def test_turns_have_one_hash_in_whichever_order_they_stand() -> None:
    assert digest(of(ANN, BEN)) == digest(of(BEN, ANN))
    two = {"s": Columns.of([ANN]), "t": Columns.of([])}
    assert digest(two) == digest(dict(reversed(two.items())))


@pytest.mark.parametrize(
    "other",
    [
        of(ANN),
        of(ANN, BEN, BEN),
        of(ANN, Turn(0, 1.000001, "ben")),
        of(ANN, Turn(0, 1, "Ben")),
        of(Turn(0, 1, "annben"), Turn(0, 1, "")),
        {"t": Columns.of([ANN, BEN])},
        {**of(ANN, BEN), "t": Columns.of([])},
    ],
)
def test_other_turns_have_another_hash(other: dict[str, Columns]) -> None:
    assert digest(of(ANN, BEN)) != digest(other)


def test_regions_have_one_hash_in_whichever_order_they_stand() -> None:
    first, second = Segment(0, 1), Segment(2, 3)
    assert digest_regions({"s": [first, second]}) == digest_regions({"s": [second, first]})
    others = [{"s": [first]}, {"s": None}, {"s": []}, {"t": [first, second]}]
    hashes = {digest_regions(other) for other in [*others, {"s": [first, second]}]}
    assert len(hashes) == 5


def test_lines_say_the_sides_the_tools_and_the_command() -> None:
    record = {
        "model": "default",
        "inference": {"latency": "offline", "window": 90, "postprocess": {"onset": 0.6}},
        "num_files": 1,
    }
    hypothesis = replace(PASSPORT.hypothesis, made_by=[record, {"num_files": 1}])
    passport = replace(PASSPORT, hypothesis=hypothesis, region=Source("all.uem", "c" * 64))
    assert passport.lines() == [
        "reference: ref, 1 file, sha256 aaaaaaaaaaaa",
        "regions: all.uem, 0 files, sha256 cccccccccccc",
        "hypothesis: hyp, 2 files, sha256 bbbbbbbbbbbb",
        "made by: model default, latency offline, onset 0.6 (1 file)",
        "made by: nobody knows (1 file)",
        "scored by: diarize 0.1.0, numpy 2.0, scipy 1.0, commit 0123456789ab",
        "command: diarize score 'my ref' hyp",
    ]
    assert Passport.from_dict(passport.to_dict()) == passport


def test_what_matters_differs_and_the_rest_does_not() -> None:
    moved = replace(PASSPORT, hypothesis=Source("other", "d" * 64), environment={"packages": {}})
    same = replace(moved, reference=replace(PASSPORT.reference, place="elsewhere", files={}))
    assert same.differences(PASSPORT) == []
    other = replace(PASSPORT, reference=Source("words", "e" * 64), scored_region="UEM")
    regions = replace(other, region=Source("all.uem", "f" * 64))
    assert regions.differences(PASSPORT) == [
        "reference: words, sha256 eeeeeeeeeeee, not ref, sha256 aaaaaaaaaaaa",
        "scored region: UEM (all.uem, sha256 ffffffffffff), not "
        "union of reference and hypothesis extents",
    ]
