"""Windows joined: links in what they share, voices where they share nothing, and the fade."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diarize.stitching import Window, _cosine, listen, plan_windows, stitch

NUM_SLOTS = 4


def drawn(*rows: str) -> np.ndarray:
    """(frame, speaker) 0/1 from one drawing per speaker; every mark stands for four frames."""
    return np.repeat(np.array([[mark == "#" for mark in row] for row in rows]).T, 4, axis=0).astype(
        np.float32
    )


def oracle(activity: np.ndarray, start: int, end: int, voices: np.ndarray) -> Window:
    """What a faultless network says of [start, end): slots in order of arrival in the window."""
    part = activity[start:end]
    first = np.where(part.any(axis=0), part.argmax(axis=0), len(part))
    order = [speaker for speaker in np.argsort(first, kind="stable") if part[:, speaker].any()]
    posterior = np.zeros((end - start, NUM_SLOTS), dtype=np.float32)
    posterior[:, : len(order)] = part[:, order]
    return listen(start, posterior, (part @ voices).astype(np.float32))


def stitched(activity: np.ndarray, window: int, overlap: int, **settings_: float) -> np.ndarray:
    """The whole session, from an oracle that hears one direction per speaker."""
    voices = np.eye(activity.shape[1], 8)
    spans = plan_windows(len(activity), window, overlap)
    windows = [oracle(activity, start, end, voices) for start, end in spans]
    return stitch(windows, int(settings_.get("max_speakers", 20)), 0.5)


def by_arrival(activity: np.ndarray) -> np.ndarray:
    """Columns in order of the first active frame, silent ones last."""
    first = np.where(activity.any(axis=0), activity.argmax(axis=0), len(activity))
    return activity[:, np.argsort(first, kind="stable")]


def padded(activity: np.ndarray) -> np.ndarray:
    """At least as many columns as the network has slots."""
    missing = max(NUM_SLOTS - activity.shape[1], 0)
    return np.pad(activity, ((0, 0), (0, missing)))


def test_a_single_window_is_returned_as_it_is() -> None:
    posterior = np.random.default_rng(0).random((20, NUM_SLOTS)).astype(np.float32)
    window = listen(0, posterior, np.zeros((20, 8), dtype=np.float32))
    assert stitch([window], 20, 0.5) is posterior


def test_speakers_of_neighbouring_windows_are_linked_by_what_they_share() -> None:
    # Frames 0-48 and 24-72: the second window hears b first, so its slots are exchanged.
    truth = drawn(
        "####..#.#...#.....",
        ".....#.#.##...###.",
    )
    assert np.array_equal(stitched(truth, 48, 24), padded(truth))


def test_a_speaker_silent_in_the_shared_stretch_is_found_again_by_voice() -> None:
    # c is silent in every stretch that two windows share, b in the first of them.
    truth = drawn(
        "####....##....##....##",
        "....##...............#",
        "......##........##....",
    )
    assert plan_windows(len(truth), 48, 24) == [(0, 48), (20, 68), (40, 88)]
    assert np.array_equal(stitched(truth, 48, 24), padded(truth))


def test_more_speakers_than_slots_get_columns_of_their_own() -> None:
    truth = drawn(
        "####................",
        "....####............",
        ".......####.........",
        "...........####.....",
        "..............####..",
        ".................###",
    )
    result = stitched(truth, 40, 20)
    assert result.shape == (80, 6)
    assert np.array_equal(result, truth)


def test_at_most_max_speakers_remain_where_nobody_stands_between_them() -> None:
    truth = drawn(
        "####................",
        "......####..........",
        "............####....",
        ".................###",
    )
    voices = np.eye(4, 8)
    spans = [(0, 20), (20, 40), (40, 60), (60, 80)]
    windows = [oracle(truth, start, end, voices) for start, end in spans]
    assert stitch(windows, 20, 0.5).any(axis=0).sum() == 4
    assert stitch(windows, 3, 0.5).any(axis=0).sum() == 3


def test_as_many_speakers_as_are_known_remain_however_alike() -> None:
    truth = drawn(
        "####................",
        "......####..........",
        "............####....",
        ".................###",
    )
    # The first two are one voice, hoarse in the second window.
    voices = np.eye(4, 8)
    voices[1] = 0.2 * voices[0] + voices[1]
    spans = [(0, 20), (20, 40), (40, 60), (60, 80)]
    windows = [oracle(truth, start, end, voices) for start, end in spans]
    assert stitch(windows, 20, 0.5).any(axis=0).sum() == 4
    three = stitch(windows, 20, 0.5, num_speakers=3)
    assert three.any(axis=0).sum() == 3 and three[4:16, 0].all() and three[24:40, 0].all()
    # With a low threshold all are one; that there are four is known better.
    assert stitch(windows, 20, -1.0).any(axis=0).sum() < 4
    assert stitch(windows, 20, -1.0, num_speakers=4).any(axis=0).sum() == 4


def test_a_short_noise_is_none_of_the_known_speakers() -> None:
    truth = drawn(
        "##########....................",
        "..........#########...........",
        "....................#.........",
    )
    voices = np.eye(3, 8)
    voices[1] += 0.6 * voices[0]
    windows = [oracle(truth, start, start + 40, voices) for start in (0, 40, 80)]
    two = stitch(windows, 20, 0.5, num_speakers=2)
    assert two[4:36, 0].all() and not two[44:72, 0].any() and two[44:72, 1].all()


def test_slots_of_one_window_stay_apart_however_alike_they_sound() -> None:
    truth = drawn(
        "##..##..##..##..##..",
        "..##..##..##..##..##",
    )
    voices = np.ones((2, 8))
    windows = [oracle(truth, s, e, voices) for s, e in plan_windows(len(truth), 40, 8)]
    assert np.array_equal(stitch(windows, 1, 0.5), padded(truth))


def test_a_brief_stranger_joins_whoever_sounds_most_like_him() -> None:
    truth = drawn("#########...", "...........#")
    voices = np.zeros((2, 8))
    voices[0, 0] = voices[1, 1] = 1.0
    windows = [oracle(truth, s, e, voices) for s, e in [(0, 24), (24, 48)]]
    # 'b' speaks in the second window together with 'a', so nobody is left to join.
    assert stitch(windows, 20, 0.5).any(axis=0).sum() == 2
    windows = [oracle(truth, s, e, voices) for s, e in [(0, 40), (40, 48)]]
    assert stitch(windows, 20, 0.5).any(axis=0).sum() == 1


def test_the_shared_stretch_fades_from_one_window_to_the_next() -> None:
    first = listen(0, np.full((8, 1), 1.0, np.float32), np.ones((8, 2), np.float32))
    second = listen(4, np.full((8, 1), 0.6, np.float32), np.ones((8, 2), np.float32))
    result = stitch([first, second], 20, 0.5)
    expected = [1.0] * 4 + [0.95, 0.85, 0.75, 0.65] + [0.6] * 4
    np.testing.assert_allclose(result[:, 0], expected, rtol=1e-6)


def test_voices_are_told_apart_by_what_they_do_not_have_in_common() -> None:
    truth = drawn("##....####..", "..##......##", "....##......")
    voices = 100.0 + np.eye(3, 8)  # raw cosines exceed 0.9999
    windows = [oracle(truth, s, e, voices) for s, e in [(0, 24), (24, 48)]]
    assert np.array_equal(stitch(windows, 20, 0.5), padded(by_arrival(truth)))


def test_a_monologue_is_not_taken_apart_by_its_own_spread() -> None:
    truth = drawn("######..####..####")
    rng = np.random.default_rng(0)
    spans = [(0, 24), (24, 48), (48, 72)]
    voices = [10.0 + rng.standard_normal((1, 8)) for _ in spans]
    windows = [oracle(truth, s, e, v) for (s, e), v in zip(spans, voices, strict=True)]
    assert np.array_equal(stitch(windows, 20, 0.5), padded(truth))


def test_windows_that_share_nothing_are_joined_by_voice_alone() -> None:
    truth = drawn("##..##..####", "..##......##", "....##......")
    voices = np.eye(3, 8)
    windows = [oracle(truth, s, e, voices) for s, e in [(0, 24), (24, 48)]]
    assert np.array_equal(stitch(windows, 20, 0.5), padded(by_arrival(truth)))


@pytest.mark.parametrize("speech", [0.2, 0.5])
def test_faint_speech_is_kept_whether_or_not_it_makes_turns(speech: float) -> None:
    posterior = np.full((10, 1), 0.3, np.float32)
    embedding = np.ones((10, 2), np.float32)
    windows = [listen(start, posterior, embedding, speech) for start in (0, 5)]
    np.testing.assert_allclose(stitch(windows, 20, 0.5, speech), np.full((15, 1), 0.3), rtol=1e-6)


def test_a_voice_that_fades_below_speech_goes_on_in_its_column() -> None:
    loud, faint, nothing = 0.9, 0.4, 0.01
    first = np.full((20, NUM_SLOTS), nothing, np.float32)
    first[:, 0], first[:10, 2], first[10:, 2] = loud, loud, faint
    second = np.full((20, NUM_SLOTS), nothing, np.float32)
    second[:, 1], second[:, 3] = loud, faint
    embedding = np.ones((20, 2), np.float32)
    result = stitch([listen(0, first, embedding), listen(10, second, embedding)], 20, 0.5)
    expected = np.full((30, NUM_SLOTS), nothing, np.float32)
    expected[:, 0], expected[:10, 1], expected[10:, 1] = loud, loud, faint
    np.testing.assert_allclose(result, expected, rtol=1e-5)


def test_a_silent_slot_takes_no_column_of_one_who_speaks() -> None:
    rng = np.random.default_rng(0)
    embedding = np.ones((20, 2), np.float32)
    silent = 0.4 * rng.random((20, NUM_SLOTS), np.float32)
    speaks = silent.copy()
    speaks[:, 3] = 1.0
    result = stitch([listen(0, silent, embedding), listen(20, speaks, embedding)], 20, 0.5)
    assert (result[20:, 0] == 1.0).all()
    for part, window in ((result[:20], silent), (result[20:], speaks)):
        assert sorted(map(bytes, part.T.copy())) == sorted(map(bytes, window.T.copy()))


def test_likeness_of_many_tracks_needs_little_more_memory_than_itself() -> None:
    voices = np.random.default_rng(0).standard_normal((1000, 8), dtype=np.float32)
    tracemalloc.start()
    likeness = _cosine(voices, voices)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2.1 * likeness.nbytes
    assert likeness.dtype == np.float32 and likeness.diagonal() == pytest.approx(1.0)


def test_a_silent_session_stays_silent() -> None:
    assert not stitched(np.zeros((100, 2), np.float32), 40, 10).any()


def test_a_voice_is_lone_speech_wherever_there_is_any() -> None:
    posterior = np.array([[0.9, 0.0], [0.9, 0.9], [0.2, 0.9], [0.0, 0.4]], np.float32)
    embedding = np.array([[1, 0], [1, 1], [0, 2], [50, 50]], np.float32)
    window = listen(0, posterior, embedding)
    np.testing.assert_allclose(window.voices, [[1.01, 0.01], [0.01, 2.01]], rtol=1e-6)
    np.testing.assert_allclose(window.weight, [1.01, 1.01], rtol=1e-6)


@given(
    num_frames=st.integers(0, 500),
    window=st.integers(2, 60),
    share=st.floats(0, 1, exclude_max=True),
)
@settings(deadline=None, max_examples=200)
def test_windows_cover_the_session_evenly(num_frames: int, window: int, share: float) -> None:
    overlap = int(share * window)
    spans = plan_windows(num_frames, window, overlap)
    if not num_frames:
        assert spans == []
        return
    assert spans[0][0] == 0 and spans[-1][1] == num_frames
    assert all(end - start == min(window, num_frames) for start, end in spans)
    shared = [before[1] - after[0] for before, after in zip(spans, spans[1:], strict=False)]
    assert all(overlap <= s for s in shared)
    assert not shared or max(shared) - min(shared) <= 1
    step = window - overlap
    assert len(spans) == 1 + max(0, -(-(num_frames - window) // step))


def conversation(rng: np.random.Generator, num_speakers: int, num_frames: int) -> np.ndarray:
    """(frame, speaker): turns of 1 to 6 s, pauses, and overlaps of at most half a turn."""
    activity = np.zeros((num_frames, num_speakers), np.float32)
    position, holder = 0, 0
    while position < num_frames:
        length = int(rng.integers(14, 75))
        activity[position : position + length, holder] = 1
        position += length + int(rng.integers(-6, 12))
        holder = int((holder + rng.integers(1, max(num_speakers, 2))) % num_speakers)
    return activity


def test_two_who_speak_in_the_same_shared_frames_are_told_apart_by_voice() -> None:
    truth = drawn("##......####", "...##...####", "####........")
    voices = np.eye(3, 8)
    windows = [oracle(truth, s, e, voices) for s, e in [(0, 48), (32, 48)]]
    windows[1] = listen(32, windows[1].posterior[:, [1, 0, 2, 3]], np.zeros((16, 8), np.float32))
    windows[1].voices[:2] = [[0, 1] + [0] * 6, [1, 0] + [0] * 6]
    assert np.array_equal(stitch(windows, 20, 0.5), padded(by_arrival(truth)))


@given(seed=st.integers(0, 10_000), num_speakers=st.integers(1, 4))
@settings(deadline=None, max_examples=30)
def test_an_oracle_is_stitched_into_the_truth(seed: int, num_speakers: int) -> None:
    truth = conversation(np.random.default_rng(seed), num_speakers, 1200)
    result = stitched(truth, 250, 80)
    # Speakers who begin in the same frame may stand in either order.
    columns = sorted(map(bytes, (padded(truth) >= 0.5).T))
    assert sorted(map(bytes, (result >= 0.5).T)) == columns


def test_windows_that_agree_in_nothing_are_stitched_all_the_same() -> None:
    count = 100
    rng = np.random.default_rng(0)
    spans = [(index * 750, index * 750 + 1125) for index in range(count)]
    windows = [
        listen(
            start,
            (rng.random((end - start, NUM_SLOTS)) < 0.2).astype(np.float32),
            rng.standard_normal((end - start, 32), dtype=np.float32),
        )
        for start, end in spans
    ]
    assert stitch(windows, 20, 0.99).shape[0] == spans[-1][1]
