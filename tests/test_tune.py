"""Tuning: every trial counts as the scorer does, the search finds what was hidden, and what is
said of other sessions was learned without them."""

import json
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plateaus import hidden

from diarize.errors import ScoreError
from diarize.formats.posteriors import Posteriors
from diarize.postprocess import PostprocessConfig, load_postprocess, to_turns
from diarize.score import CONDITIONS, Condition, score
from diarize.tune import Labelled, Tuning, tune
from diarize.tune.search import LEAST, MOST, Search, size, to_config
from diarize.tune.trials import Trials
from diarize.turns import Segment, Turn

FULL = CONDITIONS["full"]


def session(
    name: str, columns: list[list[float]], reference: list[Turn], shift: float = 1.0
) -> Labelled:
    posterior = np.array(columns, dtype=np.float32).T
    return Labelled(
        name, Posteriors(posterior, shift, 0.0, len(posterior) * shift), reference, None
    )


def test_each_kind_of_error_drawn() -> None:
    # seconds     0123456789
    # anna        ####
    # ben             ####
    # slot 0      ## ..#       at 0.5; in the session's last frame nobody
    # slot 1       #  ###
    anna, ben = Turn(0, 4, "anna"), Turn(4, 8, "ben")
    columns = [[0.9, 0.9, 0.1, 0.4, 0.4, 0.9, 0.1, 0.1, 0.1, 0.1]]
    columns += [[0.1, 0.9, 0.1, 0.1, 0.9, 0.9, 0.9, 0.1, 0.1, 0.1]]
    trials = Trials([session("a", columns, [anna, ben])], FULL)
    assert trials.scored == pytest.approx([8.0])
    # Missed are anna's 2-4 and ben's last second; false are 1-2 of slot 1 and 5-6 of slot 0.
    assert trials.errors(PostprocessConfig()) == pytest.approx(np.array([[3.0, 2.0, 0.0]]))
    # Above 0.3, slot 0 says 0-2 and 3-6: of anna it misses 2-3, and 4-6 are too much.
    low = PostprocessConfig(onset=0.3, offset=0.3)
    assert trials.errors(low) == pytest.approx(np.array([[2.0, 3.0, 0.0]]))


times = st.integers(0, 120).map(lambda tenths: tenths / 10 + 0.003)
turns = st.lists(
    st.builds(
        lambda start, length, speaker: Turn(start, round(start + length, 3), speaker),
        times,
        st.sampled_from([0.0, 0.3, 1.0, 2.5]),
        st.sampled_from(["anna", "ben", "cleo"]),
    ),
    max_size=8,
)
regions = st.none() | st.lists(
    st.builds(lambda start, length: Segment(start, start + length), times, st.floats(0.1, 5.0)),
    max_size=3,
)


@st.composite
def labelled(draw: st.DrawFn) -> Labelled:
    num_frames, num_slots = draw(st.integers(0, 60)), draw(st.integers(0, 4))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    posterior = rng.choice(
        [0.0, 0.3, 0.5, 0.7, 1.0], size=(num_frames, num_slots), p=[0.4, 0.1, 0.1, 0.1, 0.3]
    ).astype(np.float32)
    late = draw(st.sampled_from([0.0, 0.03]))
    duration = max(num_frames * 0.08 - late, 0.0)
    offset = draw(st.sampled_from([0.0, 1.237]))
    return Labelled("a", Posteriors(posterior, 0.08, offset, duration), draw(turns), draw(regions))


hundredths = st.integers(0, 50).map(lambda value: value / 100)
configs = st.builds(
    PostprocessConfig,
    onset=st.sampled_from([0.2, 0.5, 0.6, 0.95]),
    offset=st.sampled_from([0.2, 0.5, 0.6, 0.95]),
    pad_onset=hundredths,
    pad_offset=hundredths,
    min_duration_on=hundredths,
    min_duration_off=hundredths,
)
conditions = st.builds(
    Condition,
    collar=st.sampled_from([0.0, 0.0, 0.25]),
    skip_overlap=st.booleans(),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(labelled(), min_size=1, max_size=4), conditions, st.lists(configs, max_size=3))
def test_trials_count_as_the_scorer_does(
    sessions: list[Labelled], condition: Condition, tried: list[PostprocessConfig]
) -> None:
    # One more, so that something is scored.
    sessions = [*sessions, session("b", [[1.0] * 25], [Turn(0.0, 2.0, "dora")], shift=0.08)]
    trials = Trials(sessions, condition)
    for config in tried:
        counted = np.column_stack([trials.scored, trials.errors(config)])
        for row, own in zip(counted, sessions, strict=True):
            given = own.posteriors
            found = to_turns(given.posterior, 0.08, config, given.offset, given.duration)
            expected = astuple(score(own.reference, found, condition, own.regions))
            assert row == pytest.approx(expected, abs=1e-9)


def test_sessions_that_cannot_be_tuned_on() -> None:
    one = session("a", [[0.9]], [Turn(0, 1, "anna")])
    with pytest.raises(ScoreError, match=r"session 'a' last 1 s, but those of 'b' 0\.08 s"):
        Trials([one, session("b", [[0.9]], [], shift=0.08)], FULL)
    with pytest.raises(ScoreError, match="rules are 'pyannote', but .* tuned by md-eval's"):
        Trials([one], Condition(rules="pyannote"))
    with pytest.raises(ScoreError, match=r"in 1 sessions no reference speech is scored"):
        Trials([session("a", [[0.9]], [])], FULL)
    with pytest.raises(ScoreError, match="no reference speech is scored"):
        Trials([replace(one, regions=[Segment(2.0, 3.0)])], FULL)


def test_what_was_hidden_is_found() -> None:
    found = tune(
        [hidden(n, 0.66, early=2) for n in range(4)], FULL, PostprocessConfig(), show=False
    )
    after = found.totals["tuned, on the same sessions"]
    assert found.totals["before"].der > 0.5 and after.der < 0.005
    assert 0.65 <= found.tuned.onset <= 0.67 and found.tuned.pad_onset == pytest.approx(0.16)
    assert found.is_better and "Take it" in found.verdict
    assert found.num_folds == 4 and found.gain is not None and found.gain[0] < -0.5


def test_nothing_to_gain_keeps_the_setting() -> None:
    exact = [session(str(n), [[0.0, 1.0, 1.0, 0.0]], [Turn(1, 3, "anna")]) for n in range(3)]
    before = PostprocessConfig(onset=0.41, offset=0.4, min_duration_on=0.2)
    found = tune(exact, FULL, before, num_draws=20, show=False)
    assert found.tuned == before and found.gain == (0.0, 0.0, 0.0)
    assert not found.is_better and found.verdict.endswith("Keep that.")


def test_what_is_searched() -> None:
    thresholds = sum(onset - 5 + 1 for onset in range(5, 96))
    assert size() == thresholds * 51 * 51 * 101 * 101
    trials = Trials([hidden(0)], FULL)
    search = Search(trials, PostprocessConfig(pad_onset=0.229), 200, seed=3)
    assert search.start == (50, 50, 23, 0, 0, 0)
    assert list(search.draw()) == list(range(200))
    drawn = np.array(list(search._wrong))
    assert np.all((drawn >= LEAST) & (drawn <= MOST)) and np.all(drawn[:, 1] <= drawn[:, 0])
    assert len(np.unique(drawn[:, 0])) == 91  # of every threshold some
    search.best(np.array([True]))
    tried = np.array(list(search._wrong))
    assert np.all((tried >= LEAST) & (tried <= MOST)) and np.all(tried[:, 1] <= tried[:, 0])
    assert search.num_tried == len(tried) > 200
    assert search.best_so_far() == min(search._wrong, key=lambda s: search._wrong[s].sum())


def test_a_search_looks_at_none_but_its_sessions() -> None:
    sessions = [hidden(0, 0.3), hidden(1, 0.3), hidden(2, 0.8)]
    other = [*sessions[:2], replace(sessions[2], reference=[Turn(0.0, 30.0, "x")])]
    own = np.array([True, True, False])
    best = [
        Search(Trials(given, FULL), PostprocessConfig(), 50, seed=0).best(own)
        for given in (sessions, other)
    ]
    assert best[0] == best[1]
    # What was tried for others before changes nothing.
    search = Search(Trials(sessions, FULL), PostprocessConfig(), 50, seed=0)
    search.best(~own)
    assert search.best(own) == best[0]


def test_sessions_left_out_are_judged_by_what_others_say() -> None:
    # Two recordings are made for a threshold of 0.3, one for 0.8: that one loses.
    sessions = [hidden(0, 0.3), hidden(1, 0.3), hidden(2, 0.8)]
    found = tune(sessions, FULL, PostprocessConfig(), num_draws=100, show=False)
    assert found.errors_left_out is not None and found.num_folds == 3
    trials = Trials(sessions, FULL)
    for n, error in enumerate(found.errors_left_out):
        own = Search(trials, PostprocessConfig(), 100, seed=0).best(np.arange(3) != n)
        expected = trials.errors(to_config(own))[n]
        assert (error.miss, error.false_alarm, error.confusion) == pytest.approx(tuple(expected))
    assert found.errors_left_out[2].der > found.errors_tuned[2].der


def test_a_threshold_above_the_onset_says_what_the_onset_says() -> None:
    # Why the search leaves it out: padded by 10 ms, a turn ends at most 10 ms earlier.
    rng = np.random.default_rng(0)
    posterior = rng.choice([0.0, 0.5, 0.6, 0.8, 1.0], size=(400, 1)).astype(np.float32)
    for onset, offset in ((0.55, 0.7), (0.4, 0.9), (0.4, 1.0)):
        toggling = PostprocessConfig(onset, offset, pad_onset=0.01)
        plain = PostprocessConfig(onset, onset, pad_onset=0.01)
        pairs = zip(
            to_turns(posterior, 0.08, toggling), to_turns(posterior, 0.08, plain), strict=True
        )
        for one, other in pairs:
            assert one.start == other.start and 0 <= other.end - one.end < 0.0101


def test_one_session_is_not_cross_validated() -> None:
    found = tune([hidden(0)], FULL, PostprocessConfig(), num_draws=20, show=False)
    assert found.errors_left_out is None and found.gain is None and not found.is_better
    assert "not cross-validated" in found.verdict and "left out" not in found.to_text()
    none = tune([hidden(0), hidden(1)], FULL, PostprocessConfig(), 0, num_draws=20, show=False)
    assert none.errors_left_out is None and none.num_folds == 0


def test_one_session_that_outweighs_all_others_is_told_of() -> None:
    long = session("long", [[1.0] * 30], [Turn(0, 30, "anna")])
    short = session("short", [[1.0] * 10], [Turn(0, 10, "anna")])
    note = "note: 75% of what is scored is in one session, 'long'"
    for sessions, told in (([short, long], True), ([long, long, short], False)):
        found = tune(sessions, FULL, PostprocessConfig(), num_draws=5, show=False)
        assert (note in found.to_text().splitlines()) == told


def test_the_same_seed_finds_the_same() -> None:
    sessions = [hidden(n) for n in range(5)]
    first, again = (
        tune(sessions, FULL, PostprocessConfig(), 2, 30, seed=7, show=False) for _ in range(2)
    )
    assert first == again and first.gain == again.gain


@pytest.mark.parametrize(("trials", "kept"), [(10, 0), (100, 0), (500, 1)])
def test_an_interrupted_search_keeps_the_best(
    trials: int, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among the draws, in the search on all sessions, in cross-validation."""
    errors, calls = Trials.errors, iter(range(trials))

    def interrupted(self: Trials, config: PostprocessConfig) -> np.ndarray:
        if next(calls, None) is None:
            monkeypatch.setattr(Trials, "errors", errors)
            raise KeyboardInterrupt
        return errors(self, config)

    monkeypatch.setattr(Trials, "errors", interrupted)
    whole: list[Tuning] = []
    sessions = [hidden(n, 0.3 + 0.1 * n) for n in range(6)]
    found = tune(sessions, FULL, PostprocessConfig(), 6, 50, keep=whole.append, show=False)
    assert found.interrupted and "interrupted" in found.verdict and len(whole) == kept
    assert found.num_tried <= trials and found.errors_left_out is None
    ders = [error.der for error in found.totals.values()]
    assert ders[1] < ders[0] and all(found.tuned == tuning.tuned for tuning in whole)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = tune([hidden(n, 0.93) for n in range(3)], FULL, PostprocessConfig(), show=False)
    path = tmp_path / "mine.yaml"
    path.write_text(found.to_yaml(["sessions: dev.jsonl", "command: diarize tune dev.jsonl"]))
    assert load_postprocess(path) == found.tuned
    text = path.read_text()
    passport = [line for line in text.splitlines() if line.startswith("# ")]
    assert passport[0] == "# sessions: dev.jsonl"
    assert "# condition: full (collar 0 s on each side, overlap scored); 3 sessions" in passport
    ders = [f"{100 * error.der:.2f} % {name}" for name, error in found.totals.items()]
    assert f"# DER: {'; '.join(ders)}" in passport and len(ders) == 3
    assert any(line.startswith("# left out - before: -") for line in passport)
    assert f"# verdict: {found.verdict}" in passport


def test_the_report_has_its_numbers() -> None:
    found = tune([hidden(n, 0.97) for n in range(3)], FULL, PostprocessConfig(), 2, show=False)
    text, values = found.to_text(), json.loads(found.to_json())
    for name, error in found.totals.items():
        (line,) = [line for line in text.splitlines() if line.startswith(name + " ")]
        assert line.split()[-1] == f"{100 * error.der:.2f}"
    assert values["der"]["tuned"] == pytest.approx(
        100 * found.totals["tuned, on the same sessions"].der
    )
    assert [s["session_id"] for s in values["sessions"]] == ["h0", "h1", "h2"]
    assert values["sessions"][1]["left_out"]["scored"] == found.errors_before[1].scored
    assert values["num_tried"] == found.num_tried and values["num_folds"] == 2
    assert "onset" in found.at_bounds  # which is at its largest, and none was larger
    assert f"at the end of what is searched: {', '.join(found.at_bounds)}" in text
