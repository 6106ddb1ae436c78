"""Conversations go as settings, targets or references say."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from mixing import CONVERSATION, Make, covered
from scipy.stats import wasserstein_distance
from tones import write_corpus

from diarize.corpus import Corpus
from diarize.formats.rttm import read_rttm
from diarize.gap import compare
from diarize.simulate import SimulationConfig, Simulator
from diarize.turntaking import Observed, fit, observe, read_turn_taking, write_turn_taking
from diarize.turntaking.observed import OVERLAP, PAUSE


def overlap_share(maker: Simulator) -> float:
    count = np.concatenate([covered(t, w.size) for w, t in (maker.session(i) for i in range(6))])
    return float(np.sum(count > 1) / np.sum(count > 0))


def test_conversations_overlap_as_often_as_asked(simulator: Make) -> None:
    quiet = CONVERSATION | {"backchannel": 0.0, "hold": 0.0, "overlap_duration": 0.3}
    assert overlap_share(simulator(**quiet, overlap=0.0)) == 0.0
    assert 0.2 < overlap_share(simulator(**quiet, overlap=1.0)) < 0.8


def test_a_floor_that_is_held_has_one_speaker(simulator: Make) -> None:
    alone = CONVERSATION | {"backchannel": 0.0, "hold": 1.0}
    for index in range(4):
        _, turns = simulator(**alone).session(index)
        assert len({turn.speaker for turn in turns}) == 1


def test_backchannels_are_words_within_the_turns_of_others(simulator: Make) -> None:
    commented = CONVERSATION | {"backchannel": 1.0, "hold": 1.0, "overlap": 0.0, "pause": 5.0}
    for index in range(4):
        _, turns = simulator(**commented).session(index)
        holder = turns[0].speaker
        starts = [t.start for t in turns if t.speaker != holder]
        spans = [(t.start, t.end) for t in turns if t.speaker == holder]
        assert starts
        assert all(any(a < start < b for a, b in spans) for start in starts)


def test_long_utterances_are_cut(simulator: Make) -> None:
    settings = {"overlap": 0.0, "backchannel": 0.0, "max_turn": 0.2}
    _, turns = simulator(**CONVERSATION | settings).session(0)
    assert max(turn.duration for turn in turns) <= 0.2 + 1e-9


# ---- targets


@pytest.mark.parametrize(("silence", "overlap"), [(0.1, 0.12), (0.3, 0.05), (0.0, 0.2)])
def test_shares_of_silence_and_overlap_reach_their_targets(
    tmp_path: Path, silence: float, overlap: float
) -> None:
    config = SimulationConfig(
        **(CONVERSATION | {"duration": 200.0}), num_speakers=[0, 0, 0, 1],
        silence_ratio=silence, overlap_ratio=overlap, ratio_spread=0.0,
    )  # fmt: skip
    maker = Simulator(config, Corpus.from_manifest(write_corpus(tmp_path, 4, 3, 3.0), tmp_path))
    seen = observe(dict(enumerate(maker.turns(maker.plan(range(20))))), join=0.0)
    assert seen.silence == pytest.approx(silence, abs=0.015)
    assert seen.overlapped == pytest.approx(overlap, abs=0.015)


# ---- fitted to references


@pytest.fixture(scope="module")
def long_speech(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Six tones with utterances of 8 and 10 s, so that turns of any length can be said."""
    folder = tmp_path_factory.mktemp("long")
    return Corpus.from_manifest(write_corpus(folder, 6, 2, 8.0), folder)


def seen_in(corpus: Corpus, turn_taking: str | Path, sessions: int = 20) -> Observed:
    """What is seen in sessions of a quarter of an hour that go as a fit says."""
    config = SimulationConfig(independent_share=0.0, duration=900.0, turn_taking=str(turn_taking))
    maker = Simulator(config, corpus)
    made = maker.turns(maker.plan(range(sessions)))
    return observe({str(index): turns for index, turns in enumerate(made)}, join=0.0)


@pytest.fixture(scope="module")
def like_ami(long_speech: Corpus) -> Observed:
    return seen_in(long_speech, "ami", sessions=80)


def drawn(quantiles: list[float]) -> np.ndarray:
    return np.interp(np.linspace(0, 1, 5000), np.linspace(0, 1, len(quantiles)), quantiles)


def test_fitted_conversations_go_as_the_fit_says(like_ami: Observed) -> None:
    wanted, fitted = read_turn_taking("ami"), fit(like_ami)
    for name in ("pause", "gap", "backchannel"):
        values = drawn(getattr(wanted, name))
        assert wasserstein_distance(values, getattr(like_ami, name)) < 0.12 * values.mean(), name
    for before, (quantiles, refitted) in enumerate(zip(wanted.turn, fitted.turn, strict=True)):
        values = drawn(quantiles)
        assert wasserstein_distance(values, drawn(refitted)) < 0.12 * values.mean(), before
    assert fitted.hold == pytest.approx(wanted.hold, abs=0.06)
    assert fitted.interrupt == pytest.approx(wanted.interrupt, abs=0.08)
    assert fitted.backchannels == pytest.approx(wanted.backchannels, abs=0.02)
    assert fitted.dominance == pytest.approx(wanted.dominance, rel=0.25)
    assert fitted.habit == pytest.approx(wanted.habit, abs=0.03)
    assert fitted.returns == pytest.approx(wanted.returns, abs=0.03)
    assert fitted.silence == pytest.approx(wanted.silence, abs=0.01)
    assert fitted.overlapped == pytest.approx(wanted.overlapped, abs=0.01)
    assert np.bincount(like_ami.speakers)[4] >= 70


def test_fitted_conversations_go_as_the_references_did(like_ami: Observed, shared: Path) -> None:
    references = sorted((shared / "real" / "ami_rttm").glob("*.rttm"))
    meetings = {name: turns for path in references for name, turns in read_rttm(path).items()}
    rows = {row.name: row for row in compare(observe(meetings), like_ami).rows}
    for name in ("turn", "pause", "gap", "overlap", "backchannel"):
        assert rows[name].distance < 0.1 * rows[name].real[0], name
    for name in ("hold", "interrupt", "silence", "overlapped"):
        assert rows[name].distance < 0.08 * rows[name].real[0], name


def test_long_turns_are_interrupted_where_they_were(long_speech: Corpus, tmp_path: Path) -> None:
    meetings = read_turn_taking("ami")
    number = len(meetings.interrupt)
    late = [0.0] * (number // 2) + [1.0] * (number // 2)
    write_turn_taking(tmp_path / "late.json", replace(meetings, interrupt=late))
    seen = seen_in(long_speech, tmp_path / "late.json")
    long, passes = seen.turn > meetings.bands[number // 2 - 1] + 0.1, seen.follows > PAUSE
    assert (seen.follows[~long & passes] == OVERLAP).mean() < 0.05
    assert (seen.follows[long & passes] == OVERLAP).mean() > 0.9


def test_speakers_have_their_own_habits(long_speech: Corpus, tmp_path: Path) -> None:
    for habit, least, most in ((0.0, -0.05, 0.05), (0.8, 0.5, 0.9)):
        alike = replace(read_turn_taking("ami"), habit=habit)
        write_turn_taking(tmp_path / "fit.json", alike)
        assert least < seen_in(long_speech, tmp_path / "fit.json").habit < most
