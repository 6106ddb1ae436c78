"""One session scored: the rules drawn, and a count of centiseconds that knows no shortcut."""

import itertools
import math
import random
import time
from dataclasses import astuple, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diarize.errors import ScoreError
from diarize.score import (
    CONDITIONS,
    Condition,
    DiarizationError,
    score,
    score_session,
)
from diarize.score.mapping import assign
from diarize.turns import Segment, Turn

FULL, FAIR, FORGIVING = CONDITIONS.values()
BY_PYANNOTE = [replace(condition, rules="pyannote") for condition in CONDITIONS.values()]


def approx(*parts: float) -> object:
    """Scored, miss, false alarm, confusion."""
    return pytest.approx(parts, abs=1e-9)


# ---- what is counted


def test_classes_of_overlap_drawn() -> None:
    #             0123456789
    # anna        ####
    # ben           ####
    # hypothesis  xxxxxxx.yy
    reference = [Turn(0, 4, "anna"), Turn(2, 6, "ben")]
    found = score_session(reference, [Turn(0, 7, "x"), Turn(8, 10, "y")])
    assert astuple(found.single) == approx(4, 0, 0, 2)
    assert astuple(found.overlapped) == approx(4, 2, 0, 0)
    assert astuple(found.silence) == approx(0, 0, 3, 0)
    assert astuple(found.error) == approx(8, 2, 3, 2)


def test_who_is_mapped_missed_and_invented() -> None:
    reference = [Turn(0, 4, "anna"), Turn(4, 9, "ben"), Turn(9, 9.5, "carl")]
    hypothesis = [Turn(0, 4, "ben"), Turn(4, 5, "x"), Turn(5, 10, "y")]
    found = score_session(reference, hypothesis)
    assert found.mapping == {"ben": "anna", "y": "ben"}
    assert found.missed_speakers == ("carl",)
    assert found.invented_speakers == ("x",)
    assert (found.num_reference_speakers, found.num_hypothesis_speakers) == (3, 3)


def test_speakers_outside_the_region_do_not_count() -> None:
    reference = [Turn(0, 4, "anna"), Turn(20, 24, "ben")]
    hypothesis = [Turn(0, 4, "x"), Turn(20, 24, "y"), Turn(3, 3, "z")]
    found = score_session(reference, hypothesis, uem=[Segment(0, 10)])
    assert found.mapping == {"x": "anna"}
    assert (found.missed_speakers, found.invented_speakers) == ((), ())
    assert (found.num_reference_speakers, found.num_hypothesis_speakers) == (1, 1)
    assert found.jaccard_errors == {"anna": 0.0}


def test_how_much_is_left_out() -> None:
    # Of 12 s, 1 s around 0 of which half lies outside, around 4 and around 10.
    found = score_session([Turn(0, 4, "a"), Turn(4, 10, "b")], [], Condition(0.5), [Segment(0, 12)])
    assert (found.region, found.left_out) == pytest.approx((12.0, 2.5))


def test_times_must_be_finite() -> None:
    with pytest.raises(ScoreError, match=r"times reach from 0\.0 to inf s, but turns and regions"):
        score([Turn(0, math.inf, "anna")], [])
    with pytest.raises(ScoreError, match=r"times reach from -inf to 1\.0 s"):
        score([Turn(0, 1, "anna")], [], uem=[Segment(-math.inf, 1)])


# ---- rules


def test_rules_are_md_evals_or_pyannotes() -> None:
    with pytest.raises(ScoreError, match=r"rules are 'nist', but scoring follows md-eval or pya"):
        Condition(rules="nist")
    assert str(BY_PYANNOTE[1]) == (
        "fair (collar 0.25 s on each side, overlap scored, pyannote's rules)"
    )


def test_speakers_are_mapped_before_collars_or_after() -> None:
    # y says more of what anna says, x more of what the collars leave.
    times = [(0.0, 2.0), (3.0, 3.6), (4.0, 4.6), (5.0, 5.6), (6.0, 6.6)]
    reference = [Turn(a, b, "anna") for a, b in times]
    hypothesis = [Turn(a, b, "x" if a == 0 else "y") for a, b in times]
    before = score_session(reference, hypothesis, FAIR)
    after = score_session(reference, hypothesis, BY_PYANNOTE[1])
    assert (before.mapping, after.mapping) == ({"y": "anna"}, {"x": "anna"})
    assert astuple(before.error) == approx(1.9, 0, 0, 1.5)
    assert astuple(after.error) == approx(1.9, 0, 0, 0.4)


def test_a_turn_without_length_has_collars_by_md_evals_rules() -> None:
    reference = [Turn(0, 6, "anna"), Turn(3, 3, "ben")]
    assert score(reference, [], FAIR).scored == pytest.approx(5.0)
    assert score(reference, [], BY_PYANNOTE[1]).scored == pytest.approx(5.5)


def test_a_speaker_overlapping_themselves_counts_twice_by_pyannotes_rules() -> None:
    twice, once = [Turn(0, 4, "anna"), Turn(2, 6, "anna")], [Turn(0, 6, "x")]
    full, fair, forgiving = BY_PYANNOTE
    assert astuple(score(twice, once, full)) == approx(8, 2, 0, 0)
    assert astuple(score(once, twice, full)) == approx(6, 0, 2, 0)
    assert astuple(score(twice, twice, full)) == approx(8, 0, 0, 0)
    assert astuple(score(twice, once, fair)) == approx(6, 1.5, 0, 0)
    assert astuple(score(twice, once, replace(forgiving, collar=0))) == approx(4, 0, 0, 0)


def test_collars_may_swallow_turns_and_all() -> None:
    reference = [Turn(1.0, 1.4, "anna"), Turn(2.0, 4.0, "ben")]
    found = score_session(reference, reference, FAIR)
    assert astuple(found.error) == approx(1.5, 0, 0, 0)
    # By md-eval's rules anna is mapped all the same, by pyannote's she is not there.
    assert found.mapping == {"anna": "anna", "ben": "ben"}
    assert score_session(reference, reference, BY_PYANNOTE[1]).mapping == {"ben": "ben"}
    assert score(reference, reference, Condition(collar=1.0)) == DiarizationError()


def test_mappings_that_tie_are_decided_by_what_is_scored() -> None:
    # x and y each say 2 s of what anna says, but y in one piece, which collars spare.
    reference = [Turn(0, 1, "anna"), Turn(2, 3, "anna"), Turn(4, 6, "anna")]
    for x, y in itertools.permutations("xy"):
        hypothesis = [Turn(0, 1, x), Turn(2, 3, x), Turn(4, 6, y)]
        for order in (1, -1):
            found = score_session(reference, hypothesis[::order], FAIR)
            assert found.mapping == {y: "anna"}
            assert found.error.confusion == pytest.approx(1.0)


# ---- Jaccard errors


def test_jaccard_errors_drawn() -> None:
    #             0123456789
    # anna        ####
    # ben             ####
    # carl                #
    # hypothesis  xxxxxx      and y at 6-8
    reference = [Turn(0, 4, "anna"), Turn(4, 8, "ben"), Turn(8, 9, "carl")]
    found = score_session(reference, [Turn(0, 6, "x"), Turn(6, 8, "y")])
    assert found.jaccard_errors == pytest.approx({"anna": 2 / 6, "ben": 2 / 4, "carl": 1.0})
    assert found.jer == pytest.approx((1 / 3 + 1 / 2 + 1) / 3)


def test_jaccard_errors_know_no_condition_by_md_evals_rules() -> None:
    reference = [Turn(0, 4, "anna"), Turn(3, 8, "ben")]
    hypothesis = [Turn(0, 5, "x"), Turn(5, 8.5, "y")]
    full, forgiving = (score_session(reference, hypothesis, c) for c in (FULL, FORGIVING))
    assert forgiving.jaccard_errors == full.jaccard_errors
    assert full.jaccard_errors == pytest.approx({"anna": 1 / 5, "ben": 1 - 3 / 5.5})
    # Of anna 0.25-2.75 s is left, where x goes on for 4.25-5; of ben 4.25-7.75 s, of which y says
    # 5-7.75, and 8.25-8.5 beside.
    by_pyannote = score_session(reference, hypothesis, BY_PYANNOTE[2])
    assert by_pyannote.jaccard_errors == pytest.approx(
        {"anna": 1 - 2.5 / 3.25, "ben": 1 - 2.75 / 3.75}
    )


def test_jaccard_errors_have_a_mapping_of_their_own() -> None:
    # x says 5 s of ben's: more than its 3 s of anna's and y's 1.5 s of ben's together.
    reference = [Turn(0, 3, "anna"), Turn(3, 9, "ben")]
    found = score_session(reference, [Turn(0, 8, "x"), Turn(7.5, 9, "y")])
    assert found.mapping == {"x": "ben"}
    # Of intersections by unions, 3/8 and 1.5/6 are more than 5/9.
    assert found.jaccard_errors == pytest.approx({"anna": 1 - 3 / 8, "ben": 1 - 1.5 / 6})


def test_jer_where_nobody_speaks() -> None:
    assert score_session([], []).jer == 0.0
    assert score_session([], [Turn(0, 1, "x")]).jer == 1.0
    assert score_session([Turn(0, 1, "anna")], []).jer == 1.0


# ---- against a count of centiseconds

LAST = 400
few = settings(deadline=None, max_examples=60)
times = st.tuples(st.integers(0, 300), st.sampled_from([0, 1, 7, 20, 40, 90]))
turns = st.lists(
    st.builds(
        lambda when, speaker: Turn(when[0] / 100, sum(when) / 100, speaker),
        times,
        st.sampled_from(["a", "b", "c"]),
    ),
    max_size=8,
)
regions = st.none() | st.lists(
    st.builds(lambda when: Segment(when[0] / 100, (when[0] + 4 * when[1]) / 100), times), max_size=3
)
conditions = st.builds(
    Condition,
    st.sampled_from([0.0, 0.05, 0.25]),
    st.booleans(),
    st.sampled_from(["md-eval", "pyannote"]),
)


def centiseconds(segment: Segment) -> slice:
    return slice(round(100 * segment.start), round(100 * segment.end))


def voices(turns: list[Turn]) -> dict[str, np.ndarray]:
    """Speaker -> (centisecond,), how many turns."""
    found = {t.speaker: np.zeros(LAST, dtype=int) for t in turns if t.end > t.start}
    for turn in turns:
        if turn.end > turn.start:
            found[turn.speaker][centiseconds(turn)] += 1
    return found


def counted(
    reference: list[Turn],
    hypothesis: list[Turn],
    condition: Condition,
    uem: list[Segment] | None,
) -> tuple[list[tuple[float, ...]], float]:
    """Parts of the error, and the sum of Jaccard errors, of the best of all mappings.

    By pyannote's rules mappings may tie that differ where speakers overlap themselves.
    """
    by_md_eval = condition.rules == "md-eval"
    region = np.zeros(LAST, dtype=bool)
    if uem is None:
        both = [t for t in (*reference, *hypothesis) if t.end > t.start]
        uem = [Segment(min(t.start for t in both), max(t.end for t in both))] if both else []
    for segment in uem:
        region[centiseconds(segment)] = True
    true, found = voices(reference), voices(hypothesis)
    scored, collar = region.copy(), round(100 * condition.collar)
    for turn in reference:
        for edge in (turn.start, turn.end):
            if by_md_eval or turn.end > turn.start:
                middle = round(100 * edge)
                scored[max(middle - collar, 0) : middle + collar] = False
    if condition.skip_overlap and true:
        scored &= sum(true.values()) < 2
    heard = region if by_md_eval else scored
    once = ({k: np.minimum(v, 1) for k, v in side.items()} for side in (true, found))
    true_once, found_once = once
    if by_md_eval:
        true, found = true_once, found_once
    true_once = {k: v for k, v in true_once.items() if v[heard].any()}

    def jaccard(r: str, h: str) -> float:
        a, b = true_once[r][heard], found_once[h][heard]
        return 1 - (a & b).sum() / max((a | b).sum(), 1)

    names = [*found, *[None] * len(true)]
    tried = []
    for choice in itertools.permutations(names, len(true)):
        partner = {r: h for r, h in zip(true, choice, strict=True) if h is not None}
        together = sum((true[r] * found[h])[heard].sum() for r, h in partner.items())
        right = sum(np.minimum(true[r], found[h])[scored].sum() for r, h in partner.items())
        errors = [jaccard(r, partner[r]) if r in partner else 1.0 for r in true_once]
        tried.append((together, right, round(sum(errors), 9)))
    longest = [entry[1:] for entry in tried if entry[0] == max(tried)[0]]
    least = min(error for _, _, error in tried) if by_md_eval else min(e for _, e in longest)
    rights = {max(longest)[0]} if by_md_eval else {r for r, e in longest if e == least}
    silence = np.zeros(LAST, dtype=int)
    speak = sum(true.values(), silence)[scored]
    answer = sum(found.values(), silence)[scored]
    both = np.minimum(speak, answer).sum()
    return [
        tuple(
            part / 100 for part in (speak.sum(), speak.sum() - both, answer.sum() - both, both - r)
        )
        for r in rights
    ], least


@few
@given(turns, turns, conditions, regions)
def test_equals_a_count_of_centiseconds(
    reference: list[Turn],
    hypothesis: list[Turn],
    condition: Condition,
    uem: list[Segment] | None,
) -> None:
    found = score_session(reference, hypothesis, condition, uem)
    errors, jaccard = counted(reference, hypothesis, condition, uem)
    assert any(astuple(found.error) == approx(*parts) for parts in errors)
    assert sum(found.jaccard_errors.values()) == pytest.approx(jaccard, abs=1e-6)
    assert found.num_reference_speakers == len(found.jaccard_errors)
    assert len(found.missed_speakers) == found.num_reference_speakers - len(found.mapping)
    assert len(found.invented_speakers) == found.num_hypothesis_speakers - len(found.mapping)


# ---- many speakers


def test_the_largest_sum_is_chosen_however_many_there_are() -> None:
    generator = np.random.default_rng(0)
    # Blocks of three speakers who meet nobody else, against a matrix of all.
    rows = np.repeat(np.arange(1500), 3)
    columns = (3 * (np.arange(1500) // 3)[:, None] + [0, 1, 2]).ravel()
    weights = generator.uniform(size=rows.size)
    chosen = assign(rows, columns, weights)
    assert len(set(rows[chosen])) == len(set(columns[chosen])) == len(chosen) == 1500
    blocks = weights.reshape(-1, 3, 3)
    best = sum(
        max(sum(b[i, p[i]] for i in range(3)) for p in itertools.permutations(range(3)))
        for b in blocks
    )
    assert weights[chosen].sum() == pytest.approx(best)


@pytest.mark.parametrize("of_reference", [10, 10_000])
def test_ten_thousand_speakers_are_no_burden(of_reference: int) -> None:
    generator = random.Random(0)
    starts = [round(generator.uniform(0, 10_000), 3) for _ in range(10_000)]
    reference = [Turn(s, s + 1.5, f"r{i % of_reference}") for i, s in enumerate(starts)]
    hypothesis = [Turn(s + 0.1, s + 1.5, f"h{i}") for i, s in enumerate(starts)]
    begun = time.process_time()
    found = score_session(reference, hypothesis, FAIR)
    assert time.process_time() - begun < 10.0
    assert found.num_hypothesis_speakers == 10_000
    assert len(found.mapping) <= of_reference == found.num_reference_speakers


def test_everybody_at_once_is_no_burden() -> None:
    reference = [Turn(i, i + 50, f"r{i % 4}") for i in range(200)]
    hypothesis = [Turn(0, 300 - i / 10_000, f"h{i}") for i in range(3000)]
    found = score_session(reference, hypothesis)
    assert found.error.false_alarm > 300 * 2900
    assert len(found.invented_speakers) == 2996
