"""Windows of one session joined into a whole: whose slot is whose, and a cross-fade.

The network orders speakers within a window, so slot 0 of one window may be slot 2 of the
next. A *track* is one slot followed through neighbouring windows because both windows say the
same about the stretch they share. Where a speaker is silent in that stretch the track breaks,
and its parts are found again by voice. Two rules never give way: slots that speak in one
window are different people, and a link made in a shared stretch is never undone.

W windows, T frames, S slots, D embedding width, K tracks.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from diarize.activity import arrival_order

Array = NDArray[np.float32]

SPEECH = 0.5
"""Posterior from which a slot counts as speaking, unless a lower one begins or holds turns."""
LEAST_SPEECH = 0.1
"""And whatever makes turns, a slot below this is silent: all slots would be one crowd."""
MIN_SHARED_FRAMES = 3
"""Frames that two slots must share before they are taken for one speaker (0.24 s at 80 ms)."""
MIN_SHARED = 0.5
"""And the share of their speech there that they share: Dice, twice the common over the sum."""
MIN_FOUNDING_FRAMES = 12
"""A track with less speech than this (1 s) joins the likeliest speaker, however unlike."""
CROWDED_WEIGHT = 0.01
"""Of a frame with two speakers in a voice, where lone speech has 1."""


def counts_as_speech(onset: float, offset: float) -> float:
    """Posterior from which a slot speaks, for what is to be cut into turns at these thresholds.

    What begins or holds a turn must count, or stitching would take it apart.
    """
    return max(min(SPEECH, onset, offset), LEAST_SPEECH)


@dataclass(frozen=True)
class Window:
    """What the network says about one window.

    Attributes:
        start: first frame, counted from the beginning of the session.
        posterior: (frame, slot).
        speaking: (frame, slot), where the posterior counts as speech.
        voices: (slot, embedding), embeddings summed over each slot's speech, mostly lone speech.
        weight: (slot,), frames in each sum, possibly fractions of one.
    """

    start: int
    posterior: Array
    speaking: NDArray[np.bool_]
    voices: Array
    weight: Array

    @property
    def end(self) -> int:
        """One past the last frame."""
        return self.start + len(self.posterior)


def listen(start: int, posterior: Array, embedding: Array, speech: float = SPEECH) -> Window:
    """A window with the voice of each slot, summed where it speaks.

    Speech that others talk over weighs little: it decides only where a slot is never alone.

    Args:
        start: first frame of the window in the session.
        posterior: (frame, slot).
        embedding: (frame, embedding), the front end's view of the same frames.
        speech: posterior from which a slot counts as speaking.
    """
    speaking = posterior >= speech
    alone = speaking.sum(axis=1, keepdims=True) == 1
    weight = speaking * np.where(alone, 1.0, CROWDED_WEIGHT).astype(np.float32)
    voices = weight.T @ embedding  # (T, S), (T, D) -> (S, D)
    return Window(start, posterior, speaking, voices, weight.sum(axis=0))


def plan_windows(num_frames: int, window: int, overlap: int) -> list[tuple[int, int]]:
    """(start, end) frames of full windows, evenly spread, each sharing at least ``overlap``.

    The fewest windows that cover the session: 1 + ceil((num_frames - window) /
    (window - overlap)). Spreading them evenly leaves no short rest at the end, which the
    network would judge with less context; neighbours share a little more instead. No frames
    need no window.

    Args:
        num_frames: frames of the session.
        window: frames of a window.
        overlap: fewest frames that neighbours share, at least 0 and below ``window``.
    """
    if num_frames <= window:
        return [(0, num_frames)] if num_frames else []
    count = 1 - (-(num_frames - window) // (window - overlap))
    starts = [index * (num_frames - window) // (count - 1) for index in range(count)]
    return [(start, start + window) for start in starts]


def stitch(
    windows: Sequence[Window],
    max_speakers: int,
    min_similarity: float,
    speech: float = SPEECH,
    num_speakers: int | None = None,
) -> Array:
    """Posterior of the whole session, columns in order of arrival.

    Args:
        windows: by start, without gaps; the same number of slots in each.
        max_speakers: beyond so many, the most similar are joined regardless of similarity,
            unless they were heard in one window together.
        min_similarity: cosine from which two voices are one speaker, -1 to 1, seen from the
            mean voice.
        speech: posterior from which a speaker has arrived.
        num_speakers: join until so many are left, instead of by ``min_similarity``; None where
            it is not known.

    Returns:
        (frame, speaker), at least as many columns as slots; columns in which nobody speaks
        stand last. Posteriors below ``speech`` are kept as well. A single window is returned
        as it is.
    """
    if len(windows) == 1:
        return windows[0].posterior
    center = _center(windows)
    tracks = _link(windows, center)
    speakers = _Speakers(windows, tracks, center)
    speaker_of_track = _recognise(speakers, max_speakers, min_similarity, num_speakers)
    num_slots = windows[0].posterior.shape[1]
    num_columns = max(int(speaker_of_track.max(initial=-1)) + 1, num_slots)
    whole = np.zeros((windows[-1].end, num_columns), dtype=np.float32)
    done = 0
    for window, track in zip(windows, tracks, strict=True):
        placed = np.zeros((len(window.posterior), num_columns), dtype=np.float32)
        shared = max(done - window.start, 0)
        columns = track.copy()
        columns[track >= 0] = speaker_of_track[track[track >= 0]]
        placed[:, _place_silent(columns, whole[window.start : done], window)] = window.posterior
        # The nearer its edge, the less context a window had: it fades in over what is shared.
        fade = ((np.arange(shared) + 0.5) / max(shared, 1)).astype(np.float32)[:, None]
        whole[window.start : done] *= 1.0 - fade
        whole[window.start : done] += fade * placed[:shared]
        whole[done : window.end] = placed[shared:]
        done = window.end
    return whole[:, arrival_order((whole >= speech).astype(np.float32))]


def _place_silent(columns: NDArray[np.int64], before: Array, window: Window) -> NDArray[np.int64]:
    """(slot,) -> column; slots that never speak (-1) get free ones, in which they go on.

    Args:
        columns: (slot,), -1 where a slot never speaks.
        before: (frame, column), what is known of the first frames of the window.
        window: the window.
    """
    silent = np.flatnonzero(columns < 0)
    free = np.setdiff1d(np.arange(before.shape[1]), columns)
    alike = window.posterior[: len(before), silent].T @ before[:, free]
    rows, places = linear_sum_assignment(alike, maximize=True)
    placed = columns.copy()
    placed[silent[rows]] = free[places]
    return placed


def _center(windows: Sequence[Window]) -> Array:
    """(D,), the mean voice, seen from which voices point apart; 0 where nobody meets another.

    Embeddings have much in common besides the voice. What voices do not have in common shows
    where several speak in one window; a monologue must not be taken apart by its own spread.
    """
    met = [w for w in windows if np.count_nonzero(w.weight >= 1.0) > 1]
    voices = [w.voices[w.weight >= 1.0] / w.weight[w.weight >= 1.0, None] for w in met]
    if not voices:
        return np.zeros(windows[0].voices.shape[1], dtype=np.float32)
    return np.asarray(np.concatenate(voices).mean(axis=0), dtype=np.float32)


def _link(windows: Sequence[Window], center: Array) -> NDArray[np.int64]:
    """(window, slot) -> track, -1 where a slot never speaks: neighbours that agree, chained."""
    tracks = np.full((len(windows), windows[0].posterior.shape[1]), -1, dtype=np.int64)
    count = 0
    for index, window in enumerate(windows):
        speaking = window.speaking.any(axis=0)
        if index:
            earlier, later = _agree(windows[index - 1], window, center)
            tracks[index, later] = tracks[index - 1, earlier]
        new = speaking & (tracks[index] < 0)
        tracks[index, new] = count + np.arange(np.count_nonzero(new))
        count += int(np.count_nonzero(new))
    return tracks


def _agree(
    earlier: Window, later: Window, center: Array
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Slots of two neighbours that speak alike in the stretch they share, one to one."""
    shared = max(earlier.end - later.start, 0)
    before = earlier.speaking[len(earlier.speaking) - shared :].astype(np.int64)
    after = later.speaking[:shared].astype(np.int64)
    common = before.T @ after  # (T, S), (T, S) -> (S, S)
    # Where two slots speak in the very same frames, their voices decide.
    fit = common + _cosine(_seen_from(center, earlier), _seen_from(center, later))
    rows, columns = linear_sum_assignment(fit, maximize=True)
    common = common[rows, columns]
    total = before.sum(axis=0)[rows] + after.sum(axis=0)[columns]
    same = (common >= MIN_SHARED_FRAMES) & (2 * common >= MIN_SHARED * total)
    return rows[same], columns[same]


def _recognise(
    speakers: "_Speakers", max_speakers: int, min_similarity: float, num_speakers: int | None
) -> NDArray[np.int64]:
    """(track,) -> speaker: tracks of one voice joined, the most similar pair first."""
    everybody = np.ones(len(speakers.spoken), dtype=bool)
    while num_speakers is None and speakers.join(everybody, min_similarity):
        pass
    least = num_speakers or 0
    while np.count_nonzero(speakers.alive) > least and speakers.join(
        speakers.spoken < MIN_FOUNDING_FRAMES, -1.0
    ):
        pass
    most = num_speakers or max_speakers
    while np.count_nonzero(speakers.alive) > most and speakers.join(everybody, -1.0):
        pass
    return (np.cumsum(speakers.alive) - 1)[speakers.owner]


class _Speakers:
    """Tracks that are joined pair by pair; the joined one goes by the number of the first.

    Attributes:
        spoken: (track,), frames of speech.
        voice: (track, embedding), summed, seen from the center.
        heard: (track, window), whether it speaks there.
        alive: (track,), False for those that were joined to another.
        owner: (track,), the one that it was joined to.
        similarity: (track, track), cosine; -inf for those that may not be joined.
    """

    def __init__(self, windows: Sequence[Window], tracks: NDArray[np.int64], center: Array) -> None:
        count = int(tracks.max(initial=-1)) + 1
        self.spoken = np.zeros(count, dtype=np.int64)
        self.voice = np.zeros((count, windows[0].voices.shape[1]), dtype=np.float32)
        self.heard = np.zeros((count, len(windows)), dtype=np.float32)
        for index, (window, row) in enumerate(zip(windows, tracks, strict=True)):
            present = row >= 0
            self.spoken[row[present]] += window.speaking[:, present].sum(axis=0)
            self.voice[row[present]] += _seen_from(center, window)[present]
            self.heard[row[present], index] = 1.0
        self.alive = np.ones(count, dtype=bool)
        self.owner = np.arange(count)
        self.similarity = _cosine(self.voice, self.voice)
        self.similarity[self.heard @ self.heard.T > 0] = -np.inf

    def join(self, who: NDArray[np.bool_], least: float) -> bool:
        """Join the most similar pair with one of ``who``; False if none is at least so alike."""
        candidates = np.flatnonzero(who & self.alive)
        if not len(candidates):
            return False
        rows = self.similarity if who.all() else self.similarity[candidates]
        place, other = np.unravel_index(int(np.argmax(rows)), rows.shape)
        one = place if who.all() else candidates[place]
        if not self.similarity[one, other] >= least:
            return False
        self.owner[self.owner == other] = one
        self.alive[other] = False
        self.spoken[one] += self.spoken[other]
        self.voice[one] += self.voice[other]
        self.heard[one] += self.heard[other]
        row = _cosine(self.voice[[one]], self.voice)[0]
        row[~self.alive | (self.heard @ self.heard[one] > 0)] = -np.inf
        self.similarity[other] = self.similarity[:, other] = -np.inf
        self.similarity[one] = self.similarity[:, one] = row
        return True


def _seen_from(center: Array, window: Window) -> Array:
    """(slot, embedding), summed voices less the center."""
    return window.voices - window.weight[:, None] * center


def _cosine(one: Array, other: Array) -> Array:
    """(K, D), (L, D) -> (K, L); a track without a voice is like nobody, 0."""
    norms = np.linalg.norm(one, axis=1)[:, None] * np.linalg.norm(other, axis=1)
    cosine: Array = one @ other.T
    cosine /= np.maximum(norms, 1e-12, out=norms)
    return cosine.clip(-1, 1, out=cosine)
