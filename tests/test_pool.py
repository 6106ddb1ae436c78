"""Windows drawn at random: an epoch has every place once, and each is one that a model may hear."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from ramps import CLOCK, HEARS, TURNS, seconds, span, write_ramp, write_rows

from diarize.activity import from_turns
from diarize.data import BatchSizes, DrawConfig, Example, WindowPool, open_sessions
from diarize.errors import AudioError, ConfigError, ManifestError
from diarize.formats.rttm import write_rttm
from diarize.formats.uem import write_uem
from diarize.manifest import Session
from diarize.recording import AUDIO
from diarize.turns import Segment, Turn

ANYWHERE = DrawConfig(arrival=False)


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return write_ramp(tmp_path)


@pytest.fixture
def features(tmp_path: Path) -> Session:
    return write_rows(tmp_path)


def pool(
    *sessions: Session,
    window: float,
    draw: DrawConfig = ANYWHERE,
    seed: int = 1,
    num_slots: int | None = None,
    sizes: BatchSizes | None = None,
) -> WindowPool:
    return WindowPool(open_sessions(sessions), window, draw, [seed], num_slots, sizes)


def numbers_of(drawn: WindowPool, first: int, count: int) -> list[Example]:
    return [drawn.example(0, number) for number in range(first, first + count)]


def begins(example: Example) -> float:
    return seconds(example.signal)[0]


# ---- epochs


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_an_epoch_has_a_window_of_every_part(session: Session, epoch: int) -> None:
    """Ten seconds are five windows; each begins in another fifth of what one may begin at."""
    windows = numbers_of(pool(session, window=2.0), 5 * epoch, 5)
    starts = sorted(begins(window) - 2.0 for window in windows)
    for part, start in enumerate(starts):
        assert part * 8.01 / 5 - 0.01 <= start < (part + 1) * 8.01 / 5
    assert {window.signal.size for window in windows} == {32000}


def test_an_epoch_has_every_session(session: Session, tmp_path: Path) -> None:
    short = [replace(write_ramp(tmp_path, name), duration=2.5) for name in ("b", "c")]
    drawn = pool(session, *short, window=3.0)
    for epoch in range(3):
        heard = [window.session_id for window in numbers_of(drawn, 5 * epoch, 5)]
        assert Counter(heard) == {"a": 3, "b": 1, "c": 1}
    orders = {tuple(window.session_id for window in numbers_of(drawn, 5 * e, 5)) for e in range(9)}
    assert len(orders) > 3


def test_draws_depend_on_seed_and_number_alone(session: Session) -> None:
    drawn = pool(session, window=2.0)
    starts = [begins(drawn.example(0, number)) for number in range(50)]
    assert len(set(starts)) > 40
    again = pool(session, window=2.0)
    assert [begins(again.example(0, number)) for number in reversed(range(50))] == starts[::-1]
    assert begins(pool(session, window=2.0, seed=2).example(0, 49)) != starts[49]


def test_turns_are_in_the_time_of_the_window(session: Session) -> None:
    for window in numbers_of(pool(session, window=2.0), 0, 20):
        start = begins(window)
        for turn in window.turns:
            assert 0 <= turn.start < turn.end <= 2.0 + 1e-9
            if turn.start > 0:
                expected = 5.0 if turn.speaker == "bob" else 8.5
                assert turn.start + start == pytest.approx(expected, abs=1e-3)


def test_a_session_shorter_than_a_window_is_whole(session: Session) -> None:
    assert seconds(pool(session, window=30.0).example(0, 3).signal) == (2.0, 12.0)


def test_the_last_window_may_be_short(session: Session) -> None:
    drawn = pool(session, window=4.0, draw=DrawConfig(arrival=False, shortest=1.0))
    lengths = [window.signal.size / 16000 for window in numbers_of(drawn, 0, 60)]
    ends = [seconds(window.signal)[1] for window in numbers_of(drawn, 0, 60)]
    assert max(lengths) == 4.0 and 1.0 <= min(lengths) < 1.6
    assert all(length == 4.0 or end == 12.0 for length, end in zip(lengths, ends, strict=True))


def test_windows_of_features_begin_where_rows_do(features: Session) -> None:
    drawn = pool(features, window=1.96, draw=DrawConfig())
    windows = numbers_of(drawn, 0, 100)
    assert {len(window.signal) for window in windows} == {20}
    firsts = [span(window)[0] for window in windows]
    assert len(set(firsts)) > 40 and min(firsts) >= 20 and max(firsts) <= 100
    for window, first in zip(windows, firsts, strict=True):
        assert window.start == pytest.approx(first / 10)
        truth = from_turns(window.turns, CLOCK, 20, 2, order=["ann", "bob"]).matrix
        order = ["ann", "bob"]
        expected = from_turns(TURNS, CLOCK, 20, 2, start=first / 10, order=order).matrix
        assert np.array_equal(truth, expected)


# ---- which windows


def test_windows_begin_where_it_is_heard_who_comes_first(session: Session) -> None:
    """Ann until 3.5, bob from 5 to 9, ann from 8.5 on: times of the recording."""
    windows = numbers_of(pool(session, window=2.0, draw=DrawConfig()), 0, 60)
    starts = np.array([begins(window) for window in windows])
    in_ann = (starts >= 2.0) & (starts <= 3.01)
    in_pause = (starts >= 3.74) & (starts <= 5.01)
    in_bob = (starts >= 5.0) & (starts <= 8.51)
    after = (starts >= 9.24) & (starts <= 10.01)
    assert (in_ann | in_pause | in_bob | after).all()
    assert min(map(np.sum, (in_ann, in_pause, in_bob, after))) > 2
    anywhere = [begins(w) for w in numbers_of(pool(session, window=2.0), 0, 60)]
    assert any(3.02 < start < 3.7 for start in anywhere)


def test_windows_with_too_many_speakers_are_left_out(session: Session) -> None:
    windows = numbers_of(pool(session, window=2.0, num_slots=1), 0, 60)
    assert {len({turn.speaker for turn in window.turns}) for window in windows} == {1}
    whole = numbers_of(pool(session, window=9.0, num_slots=1), 0, 5)
    assert {len({turn.speaker for turn in window.turns}) for window in whole} == {2}


def test_crowded_windows_are_drawn_more_often(session: Session) -> None:
    def share(crowding: float) -> float:
        draw = DrawConfig(arrival=False, crowding=crowding)
        windows = numbers_of(pool(session, window=2.0, draw=draw), 0, 400)
        return float(np.mean([len({turn.speaker for turn in w.turns}) == 2 for w in windows]))

    # Of 801 starts, 49 from 3 s on and 249 from 6.5 s on hear both; the others hear one speaker.
    assert share(1.0) == pytest.approx(298 / 801, abs=0.04)
    assert share(3.0) == pytest.approx(3 * 298 / (3 * 298 + 503), abs=0.04)


def test_noise_stands_in_where_no_window_may_begin(session: Session, tmp_path: Path) -> None:
    both = [Turn(0.0, 14.0, "ann"), Turn(0.0, 14.0, "bob")]
    write_rttm(tmp_path / "both.rttm", {"a": both})
    duet = replace(session, rttm=tmp_path / "both.rttm")
    window = pool(duet, window=2.0, draw=DrawConfig()).example(0, 3)
    assert window.stands_in and window.turns == []
    assert window.signal.shape == (32000,) and window.signal.dtype == np.float32
    assert np.sqrt(np.mean(window.signal**2)) == pytest.approx(1e-3, rel=0.05)
    assert abs(window.signal.mean()) < 5e-5
    assert not pool(duet, window=2.0).example(0, 3).stands_in


def test_decoded_recordings_have_the_same_windows(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    decoded = WindowPool(open_sessions([session], cache=True), 2.0, ANYWHERE, [1])
    for number in range(10):
        one, other = decoded.example(0, number), pool(session, window=2.0).example(0, number)
        assert one.turns == other.turns and one.signal.dtype == np.float32
        assert np.abs(one.signal - other.signal).max() <= 0.51 / 32768
    assert len(list((tmp_path / "cache" / "diarize").iterdir())) == 1


@pytest.mark.parametrize("cache", [False, True])
def test_a_session_hears_its_channel(
    session: Session, cache: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    wanted = pool(session, window=2.0).example(0, 3).signal
    ramp, rate = soundfile.read(session.audio)
    soundfile.write(tmp_path / "two.wav", np.stack([0 * ramp, ramp], axis=1), rate)
    for channel, share in ((1, 1.0), (0, 0.0), (None, 0.5)):
        line = replace(session, audio=tmp_path / "two.wav", channel=channel)
        heard = WindowPool(open_sessions([line], cache), 2.0, ANYWHERE, [1]).example(0, 3).signal
        assert np.abs(heard - share * wanted).max() <= 1.01 / 32768
    line = replace(line, channel=2, where="m:1")
    with pytest.raises(AudioError, match=r"m:1: .*two\.wav: channel 2 is asked for, but there are"):
        open_sessions([line], cache)


def test_features_are_not_decoded(features: Session) -> None:
    as_they_are = WindowPool(open_sessions([features], cache=True), 2.0, ANYWHERE, [1])
    assert as_they_are.example(0, 3).signal.shape == (20, 2)


# ---- two stretches as one


@pytest.fixture
def talk(tmp_path: Path) -> Session:
    """Fourteen seconds: a word of ann, bob or cid in every second, and half a second of pause."""
    names = ["ann", "bob", "cid"]
    turns = [Turn(t + 0.2, t + 0.7, names[t % 3]) for t in range(14)]
    write_ramp(tmp_path)
    write_rttm(tmp_path / "talk.rttm", {"a": turns})
    return Session("a", tmp_path / "a.flac", rttm=tmp_path / "talk.rttm", where="m:1")


SPLICED = DrawConfig(splices=1.0, splice_shortest=1.5, alone=0.3, guard=0.2)


def joint(signal: np.ndarray) -> int | None:
    """Sample at which the second stretch begins; the ramp rises everywhere else as it did.

    None where the second goes on where the first ends, or there is one.
    """
    jumps = np.flatnonzero(np.abs(np.diff(signal) - 1 / (14 * 16000)) > 1e-5)
    assert len(jumps) <= 1
    return int(jumps[0]) + 1 if len(jumps) else None


def test_two_stretches_are_joined_in_a_pause(talk: Session) -> None:
    windows = numbers_of(pool(talk, window=5.0, draw=SPLICED), 0, 40)
    lengths = set()
    for window in windows:
        assert window.signal.size == 5 * 16000
        at = joint(window.signal)
        if at is None:
            continue
        one, other = seconds(window.signal[:at]), seconds(window.signal[at:])
        assert at >= 1.5 * 16000 - 1 and window.signal.size - at >= 1.5 * 16000 - 1
        assert one[1] <= other[0] or other[1] <= one[0]
        for moment in (one[1], other[0]):
            # A tenth of a second of silence on either side: words are from .2 to .7.
            assert moment % 1 >= 0.79 or moment % 1 <= 0.21
        turns = [(one[0], 0.0, at / 16000), (other[0], at / 16000, 5.0)]
        for turn in window.turns:
            ((start, begin, end),) = [t for t in turns if t[1] - 1e-6 <= turn.start < t[2]]
            assert turn.end <= end + 1e-6
            middle = (turn.start + turn.end) / 2 - begin + start
            assert turn.speaker == ["ann", "bob", "cid"][int(middle) % 3]
        lengths.add(at)
    assert len(lengths) > 20


def test_splices_keep_within_the_slots(talk: Session) -> None:
    windows = numbers_of(pool(talk, window=5.0, draw=SPLICED, num_slots=3), 0, 20)
    assert sum(joint(window.signal) is not None for window in windows) > 10
    # A second and a half has two speakers: nothing can be joined in one slot.
    for window in numbers_of(pool(talk, window=5.0, draw=SPLICED, num_slots=1), 0, 5):
        assert joint(window.signal) is None and window.signal.size == 5 * 16000


def test_the_second_stretch_is_as_long_as_there_is_room(talk: Session) -> None:
    """Of 5.4 s, two stretches of 5 s in all rarely leave room for all of the second."""
    short = replace(talk, duration=5.4)
    windows = numbers_of(pool(short, window=5.0, draw=SPLICED), 0, 30)
    sizes = [window.signal.size for window in windows]
    assert min(sizes) < 5 * 16000 and min(sizes) >= 3 * 16000 - 2


def test_scored_regions_are_joined_too(talk: Session, tmp_path: Path) -> None:
    write_uem(tmp_path / "a.uem", {"a": [Segment(0.0, 14.0)]})
    scored = replace(talk, uem=tmp_path / "a.uem")
    window = pool(scored, window=5.0, draw=SPLICED).example(0, 0)
    sample = joint(window.signal)
    assert window.regions is not None and sample is not None
    at = sample / 16000
    bounds = [bound for region in window.regions for bound in (region.start, region.end)]
    assert bounds == pytest.approx([0.0, at, at, 5.0], abs=1e-4)


# ---- batches by seconds


def test_windows_of_like_length_are_in_one_bucket(tmp_path: Path) -> None:
    whole = write_ramp(tmp_path)
    lengths = [1.0, 1.0, 1.5, 2.0, 2.0, 3.0, 5.0, 5.5, 8.0, 9.0]
    sessions = [replace(whole, duration=length) for length in lengths]
    sizes = BatchSizes(99, seconds=12.0, buckets=3)
    buckets = pool(*sessions, window=10.0, sizes=sizes).buckets
    spans = [sorted(lengths[s] for s in bucket.session) for bucket in buckets]
    assert len(spans) == 3 and sorted(sum(spans, [])) == lengths
    assert all(one[-1] < other[0] for one, other in zip(spans, spans[1:], strict=False))
    for held, bucket in zip(spans, buckets, strict=True):
        assert bucket.batch_size == 12 // held[-1]
    # About as many seconds in each: none has more than its third and one session.
    assert all(sum(held) <= sum(lengths) / 3 + 9.0 for held in spans)
    (only,) = pool(*sessions, window=10.0, sizes=BatchSizes(4)).buckets
    assert only.batch_size == 4 and only.num_batches == 2.5


def test_a_bucket_has_a_batch_at_least(tmp_path: Path) -> None:
    whole = write_ramp(tmp_path)
    sessions = [replace(whole, duration=length) for length in (1.0, 2.0, 3.0, 4.0, 8.0, 9.0)]
    sizes = BatchSizes(99, seconds=9.0, buckets=6)
    buckets = pool(*sessions, window=10.0, sizes=sizes).buckets
    assert all(len(bucket.session) >= bucket.batch_size for bucket in buckets)
    assert sorted(np.concatenate([bucket.session for bucket in buckets])) == list(range(6))
    # 9 of 1 s, 4 of 2 s and 3 of 3 s would make a batch: three windows are the first that do.
    assert [sorted(bucket.session) for bucket in buckets] == [[0, 1, 2], [3, 4], [5]]
    (few,) = pool(*sessions[:2], window=10.0, sizes=sizes).buckets
    assert few.batch_size == 4 and len(few.session) == 2


def test_long_windows_may_cost_more_than_their_seconds() -> None:
    sizes = BatchSizes(99, seconds=400.0, quadratic=1200.0)
    # 90 + 90 * 90 / 1200 = 96.75, four times in 400; 10 + 100 / 1200, 39 times.
    assert (sizes.of(90.0), sizes.of(10.0)) == (4, 39)
    assert BatchSizes(99, seconds=400.0).of(10.0) == 40


# ---- what a model hears


def test_a_model_is_held_against_all_sessions_before_any_is_read(features: Session) -> None:
    whole = pool(features, window=4.0)
    whole.check(HEARS, 2)
    with pytest.raises(ManifestError, match=r"m:1: session 'f' is features .* model hears audio\."):
        whole.check(AUDIO, 2)
    told = r"session 'f' has 2 classes between 2\.00 s and 6\.00 s, but the model has 1 slots\. Ra"
    with pytest.raises(ConfigError, match=told):
        whole.check(HEARS, 1)
    # No window of a second and a half hears both before 8.5 s, where bob is not yet done.
    told = r"session 'f' has 2 classes between 7\.10 s and 8\.60 s"
    with pytest.raises(ConfigError, match=told):
        pool(features, window=1.5).check(HEARS, 1)
    monologue = replace(features, duration=6.4)
    pool(monologue, window=1.5).check(HEARS, 1)
    with pytest.raises(ConfigError, match=r"between 2\.00 s and 8\.40 s"):
        pool(monologue, window=30.0).check(HEARS, 1)


def test_rows_longer_than_a_window_are_no_data(tmp_path: Path) -> None:
    slow = replace(write_rows(tmp_path), offset=0.0, duration=None, frame_shift=60)
    told = r"m:1: session 'f' is features of 2 numbers every 60 s, but a window lasts 20 s\. Raise"
    with pytest.raises(ManifestError, match=told):
        pool(slow, window=20.0)
