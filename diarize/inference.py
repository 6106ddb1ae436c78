"""Recordings of any length to posteriors, and posteriors to turns.

A session longer than a window is judged in windows that share some of their frames, joined by
``diarize.stitching``; by a streaming model chunk by chunk, with ``diarize.streaming``. Audio is
read window by window, so memory holds ``batch_size`` windows of it, never a whole waveform, and
what was judged of the sessions that are not yet whole (30 bytes a frame for four slots: 4 MiB for
three hours). Windows of several sessions go through the network together, short sessions first, so
that a batch pads little. Whatever stands beside a session in its batch, its result is the same.

Nothing here needs torch: of the network it knows what `Network` says.

B batch, T frames, S slots, D embedding width, N samples, F numbers in a row of features.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np
import soxr
from numpy.typing import NDArray

from diarize.audio import SAMPLE_RATE, TOLERANCE
from diarize.config import load_config
from diarize.errors import AudioError, ConfigError, DiarizeError, FeatureError, ManifestError
from diarize.exported import ExportedDiarizer
from diarize.exported_stream import ExportedStream
from diarize.frames import FrameGrid
from diarize.latency import LATENCIES, OFFLINE, StreamingConfig, parse_latency
from diarize.manifest import Session
from diarize.postprocess import PostprocessConfig, to_turns
from diarize.progress import progress as tell
from diarize.recording import AUDIO, Kind, open_recording, refuse_unheard
from diarize.stitching import Window, counts_as_speech, listen, plan_windows, stitch
from diarize.stream import Stream, Streamed, feed_together, finish_together
from diarize.turns import Turn

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from diarize.model import Diarizer

Array = NDArray[np.float32]
Read = Callable[[int, int], Array]
"""First sample and number of samples to (sample,), or to features, (frame, F)."""

FED = 60 * SAMPLE_RATE
"""Samples that a stream is fed at a time."""


class Network(Streamed, Protocol):
    """What a session is judged by: a `Diarizer`, or a graph of one."""

    inference: dict[str, Any]
    """How it is best run, as keys of `InferenceConfig`."""

    @property
    def hears(self) -> Kind:
        """Audio, or features of some width and frame shift."""

    def judge(self, signal: Array, num_samples: NDArray[np.int64]) -> tuple[Array, Array]:
        """Posteriors and embeddings of a batch of windows.

        Args:
            signal: (B, N), -1 to 1; or (B, T, F), features.
            num_samples: (B,), samples before padding.

        Returns:
            Posteriors (B, T, S), and for each frame, or as many as a multiple, an embedding,
            without meaning beyond an item's frames.
        """


@dataclass
class InferenceConfig:
    """How sessions are cut, joined and turned into turns."""

    window: float = 90.0
    """Seconds the network hears at once."""
    overlap: float | None = None
    """Seconds that neighbouring windows share at least; null is a third of the window, so
    that every second is judged 1.5 times (window / (window - overlap))."""
    batch_size: int = 4
    """Windows, or streamed recordings, judged together; more costs memory, and pays on
    accelerators."""
    max_speakers: int = 20
    """Most speakers of a session. Where windows are joined, the likest beyond it are joined as
    well; of the columns that there still are, those with the least speech (the smallest sums of
    posteriors) are silenced."""
    num_speakers: int | None = None
    """As many as are known to speak: where windows are joined, voices are until so many are left,
    however alike; then as ``max_speakers``. Whom the network did not hear is not made up."""
    min_similarity: float = 0.5
    """Cosine from which two voices, seen from the mean voice, are one speaker where the windows
    share no speech. Lower joins strangers, higher takes speakers apart."""
    latency: str = OFFLINE
    """How streaming models are run, as `parse_latency` takes it; then ``window``, ``overlap`` and
    ``min_similarity`` have no meaning. ``offline`` is in windows, where the model does not say
    otherwise."""
    latencies: dict[str, str] = field(default_factory=lambda: dict(LATENCIES))
    """The model's names of latencies, with their settings in frames."""
    presets: dict[str, str] = field(default_factory=dict)
    """The model's names of post-processing presets, with those that `load_postprocess` knows."""
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    """Posteriors to turns."""

    def __post_init__(self) -> None:
        if self.num_speakers is not None and self.num_speakers < 1:
            raise ConfigError(
                f"num_speakers is {self.num_speakers}, but at least 1 speaks. Leave it out if it "
                "is not known."
            )
        parse_latency(self.latency, self.latencies)
        if not 0 < self.window < np.inf or self.batch_size < 1 or self.max_speakers < 1:
            raise ConfigError(
                f"window is {self.window:g} s, batch_size {self.batch_size} and max_speakers "
                f"{self.max_speakers}, but all must be positive and finite. Correct them."
            )
        if self.overlap is not None and not 0 <= self.overlap < self.window:
            raise ConfigError(
                f"overlap is {self.overlap:g} s, but must lie between 0 and the window of "
                f"{self.window:g} s. Shorten it, or leave it out."
            )

    @property
    def speech(self) -> float:
        """Posterior from which a slot counts as speaking where windows are joined."""
        return counts_as_speech(self.postprocess.onset, self.postprocess.offset)

    @classmethod
    def of(cls, diarizer: Network) -> "InferenceConfig":
        """The settings that a model's checkpoint recommends."""
        values = dict(diarizer.inference)
        if diarizer.postprocess:
            values["postprocess"] = dict(diarizer.postprocess)
        return load_config(cls, values=values)


@dataclass(frozen=True)
class Diarization:
    """Who spoke when in one session.

    Attributes:
        session_id: RTTM field 2.
        posterior: (frame, slot) float32, 0 to 1; frame t starts at offset + t * frame_shift.
            Columns are in order of arrival: as the network gives them where the session fits
            one window, by first speech where it was stitched (possibly more than its slots).
        frame_shift: seconds per frame.
        turns: seconds of the recording, by start.
        offset: where the session starts in its recording, seconds.
        duration: seconds.
        num_windows: in how many it was judged, their speakers matched; 1 is at once, or chunk by
            chunk.
    """

    session_id: str
    posterior: Array
    frame_shift: float
    turns: list[Turn]
    offset: float
    duration: float
    num_windows: int = 1


@dataclass(frozen=True)
class Failure:
    """A session that could not be diarized, and why, in one line."""

    session_id: str
    reason: str


@dataclass
class _Job:
    """A session on its way: the windows it needs, and those that were judged until it ends."""

    session_id: str
    offset: float
    num_samples: int
    read: Read
    spans: list[tuple[int, int]]
    windows: list[Window] = field(default_factory=list)
    failed: bool = False


def diarize_file(diarizer: Network, path: str | Path) -> list[Turn]:
    """Turns of a recording, with the settings that the model recommends.

    Raises:
        AudioError: if it cannot be read.
    """
    return diarize_session(diarizer, Session(Path(path).stem, Path(path), where=str(path))).turns


def diarize_waveform(
    diarizer: Network,
    waveform: "NDArray[np.floating] | Tensor",
    sample_rate: int = SAMPLE_RATE,
    config: InferenceConfig | None = None,
    session_id: str = "waveform",
) -> Diarization:
    """Who spoke when in samples that are in memory.

    Args:
        diarizer: the model.
        waveform: (sample,) or (sample, channel), -1 to 1; channels are averaged.
        sample_rate: of the waveform.
        config: default: what the model recommends.
        session_id: name of the result.

    Raises:
        AudioError: if the waveform has another shape, no samples, or some that are no numbers.
        ManifestError: if the model hears features.
    """
    refuse_unheard(session_id, AUDIO, diarizer.hears)
    samples = np.asarray(waveform, dtype=np.float32)
    if samples.ndim not in (1, 2) or samples.ndim == 2 and samples.shape[1] > samples.shape[0]:
        raise AudioError(
            f"{session_id}: the waveform has shape {samples.shape}, but (sample,) or "
            "(sample, channel) is expected. Transpose it?"
        )
    _refuse_empty(session_id, samples.size)
    if not np.isfinite(samples).all():
        raise AudioError(
            f"{session_id}: the waveform holds NaN or infinity, but audio is finite. "
            "Look at what made it."
        )
    if samples.ndim == 2:
        samples = samples.mean(axis=1)
    if sample_rate != SAMPLE_RATE:
        samples = soxr.resample(samples, sample_rate, SAMPLE_RATE)
    config = config or InferenceConfig.of(diarizer)
    job = _job(session_id, 0.0, samples.size, _reader(samples), diarizer.grid, config)
    return _only(_run(diarizer, [job], config, show=False))


def diarize_features(
    diarizer: Network,
    features: "NDArray[np.floating] | Tensor",
    config: InferenceConfig | None = None,
    session_id: str = "features",
) -> Diarization:
    """Which class is present when in an array that is in memory.

    Args:
        diarizer: a model that hears features.
        features: (frame, F), rows of the width and frame shift that it hears.
        config: default: what the model recommends.
        session_id: name of the result.

    Raises:
        ManifestError: if the model hears audio, or rows of another width.
        FeatureError: if the array has another shape, no rows, or some that are no numbers.
    """
    if diarizer.hears == AUDIO:
        raise ManifestError(
            f"{session_id}: an array is given, but the model hears audio. Take one that hears "
            "features."
        )
    detach = getattr(features, "detach", None)
    if detach is not None:
        features = detach().cpu().numpy()
    with np.errstate(over="ignore"):  # told below
        rows = np.asarray(features, dtype=np.float32)
    if rows.ndim != 2 or not rows.size:
        raise FeatureError(
            f"{session_id}: the features have shape {rows.shape}, but (row, dim) is expected, at "
            "least 1 of each. Reshape the array."
        )
    grid = diarizer.hears.grid
    refuse_unheard(session_id, Kind(rows.shape[1], grid), diarizer.hears)
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise FeatureError(
            f"{session_id}: row {row} ({grid.time_at(row):.2f} s) holds NaN or infinity, but "
            "features are finite. Look at what made it."
        )
    config = config or InferenceConfig.of(diarizer)
    read = _reader(rows, grid.hop)
    job = _job(session_id, 0.0, len(rows) * grid.hop, read, diarizer.grid, config)
    return _only(_run(diarizer, [job], config, show=False))


def diarize_session(
    diarizer: Network, session: Session, config: InferenceConfig | None = None
) -> Diarization:
    """Who spoke when in one session; of its recording, memory holds a few windows at a time.

    Args:
        diarizer: the model.
        session: what to diarize; its offset and duration are honoured.
        config: default: what the model recommends.

    Raises:
        AudioError: if its recording cannot be read, or is not what the model hears.
    """
    return _only(diarize_sessions(diarizer, [session], config, progress=False))


def diarize_sessions(
    diarizer: Network,
    sessions: Sequence[Session],
    config: InferenceConfig | None = None,
    progress: bool = True,
) -> Iterator[Diarization | Failure]:
    """Results as they are ready, short sessions first; one bad recording spoils no other.

    Args:
        diarizer: the model.
        sessions: what to diarize.
        config: default: what the model recommends.
        progress: tell how far it is on standard error.
    """
    config = config or InferenceConfig.of(diarizer)
    jobs = []
    for session in sessions:
        try:
            jobs.append(_open(session, diarizer, config))
        except DiarizeError as error:
            yield Failure(session.session_id, str(error))
    yield from _run(diarizer, sorted(jobs, key=lambda j: j.num_samples), config, progress)


def choose_device(name: str = "auto") -> "torch.device":
    """A device by name; ``auto`` is CUDA where there is one, else the CPU.

    Raises:
        ConfigError: for a name that torch does not know, or a device that is not there.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch without CUDA asserts
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device {name!r} cannot be used ({reason}). Try 'auto' or 'cpu'."
        ) from None
    return device


def _open(session: Session, diarizer: Network, config: InferenceConfig) -> _Job:
    """Check a session's span against its recording, and plan its windows."""
    recording = open_recording(session.audio, session.frame_shift, session.channel)
    name = f"{session.where}: session {session.session_id!r}"
    refuse_unheard(name, recording.kind, diarizer.hears)
    end = recording.duration if session.duration is None else session.offset + session.duration
    _refuse_empty(str(session.audio), recording.duration)
    if end > recording.duration + TOLERANCE or session.offset >= recording.duration:
        raise ManifestError(
            f"{name} lasts from {session.offset:.2f} s to {end:.2f} s, but {recording.lasts}. "
            "Correct 'offset' and 'duration'."
        )
    start, stop = recording.span(name, session.offset, end)

    def read(first: int, count: int) -> Array:
        return recording.read(start + first, count)

    offset = recording.nearest(session.offset)
    return _job(session.session_id, offset, stop - start, read, diarizer.grid, config)


def _refuse_empty(where: str, length: float) -> None:
    if not length:
        raise AudioError(f"{where}: holds no samples, but audio is expected. Leave it out.")


def _reader(signal: Array, hop: int = 1) -> Read:
    """Reads what is in memory: samples, or rows that last ``hop`` of them."""
    return lambda first, count: signal[first // hop : (first + count) // hop]


def _job(
    session_id: str,
    offset: float,
    num_samples: int,
    read: Read,
    grid: FrameGrid,
    config: InferenceConfig,
) -> _Job:
    window = max(grid.frame_at(config.window), 2)
    overlap = window // 3
    if config.overlap is not None:
        overlap = min(grid.frame_at(config.overlap), window - 1)
    spans = plan_windows(grid.num_frames(num_samples), window, overlap)
    return _Job(session_id, offset, num_samples, read, spans)


def _run(
    diarizer: Network, jobs: Sequence[_Job], config: InferenceConfig, show: bool
) -> Iterator[Diarization | Failure]:
    """Judge all jobs; each is handed over once it is whole."""
    latency = parse_latency(config.latency, config.latencies)
    if latency is None:
        yield from _run_offline(diarizer, jobs, config, show)
    else:
        yield from _run_streaming(diarizer, jobs, latency, config, show)


def _run_streaming(
    diarizer: Network,
    jobs: Sequence[_Job],
    latency: StreamingConfig,
    config: InferenceConfig,
    show: bool,
) -> Iterator[Diarization | Failure]:
    """Some jobs at a time, some of their audio at a time."""
    begin = _streaming(diarizer, latency)
    total = sum(job.num_samples for job in jobs) / SAMPLE_RATE
    with tell(total, "seconds of audio", show) as advance:
        for first in range(0, len(jobs), config.batch_size):
            batch = jobs[first : first + config.batch_size]
            streams = [begin() for _ in batch]
            answers: list[list[Array]] = [[] for _ in batch]
            for place in range(0, max(job.num_samples for job in batch), FED):
                fed = []
                for index, job in enumerate(batch):
                    count = min(FED, job.num_samples - place)
                    if job.failed or count <= 0:
                        continue
                    try:
                        fed.append((index, job.read(place, count)))
                    except DiarizeError as error:
                        job.failed = True
                        yield Failure(job.session_id, str(error))
                pieces = [samples for _, samples in fed]
                heard = feed_together([streams[index] for index, _ in fed], pieces)
                for (index, samples), posterior in zip(fed, heard, strict=True):
                    answers[index].append(posterior)
                    advance(samples.size / SAMPLE_RATE)
            for job, parts, rest in zip(batch, answers, finish_together(streams), strict=True):
                if not job.failed:
                    yield _judge_stream(job, np.concatenate([*parts, rest]), diarizer, config)


def _streaming(diarizer: Network, latency: StreamingConfig) -> Callable[[], Stream]:
    """What begins a stream of a model."""
    if isinstance(diarizer, ExportedDiarizer):
        return partial(ExportedStream, diarizer, with_turns=False)
    from diarize.streaming import StreamingDiarizer  # which needs torch

    return partial(StreamingDiarizer, cast("Diarizer", diarizer), latency, with_turns=False)


def _judge_stream(
    job: _Job, posterior: Array, diarizer: Network, config: InferenceConfig
) -> Diarization | Failure:
    """The turns of a stream, if its posteriors are numbers."""
    if np.isfinite(posterior).all():
        return _conclude(job, posterior, diarizer, config)
    frame = int(np.flatnonzero(~np.isfinite(posterior).all(axis=1))[0])
    time = job.offset + diarizer.grid.time_at(frame)
    return _diverged(job, f"the audio at {time:.2f} s", AUDIO)


def _run_offline(
    diarizer: Network, jobs: Sequence[_Job], config: InferenceConfig, show: bool
) -> Iterator[Diarization | Failure]:
    """Judge the windows of all jobs in batches."""
    grid = diarizer.grid
    total = sum(job.num_samples for job in jobs) / grid.sample_rate
    waiting: list[tuple[_Job, int, Array]] = []
    heard = "audio" if diarizer.hears == AUDIO else "features"
    with tell(total, f"seconds of {heard}", show) as advance:
        for job in jobs:
            if not job.spans:
                yield _join(job, diarizer, config)
            for start, end in job.spans:
                if job.failed:
                    break
                first = start * grid.hop
                last = job.num_samples if end == job.spans[-1][1] else end * grid.hop
                try:
                    signal = job.read(first, last - first)
                except DiarizeError as error:
                    waiting = [item for item in waiting if item[0] is not job]
                    job.windows.clear()
                    yield Failure(job.session_id, str(error))
                    break
                waiting.append((job, start, signal))
                if len(waiting) == config.batch_size:
                    yield from _judge(diarizer, waiting, config, advance)
                    waiting = []
        yield from _judge(diarizer, waiting, config, advance)


def _judge(
    diarizer: Network,
    batch: Sequence[tuple[_Job, int, Array]],
    config: InferenceConfig,
    advance: Callable[[float], None],
) -> Iterator[Diarization | Failure]:
    """Run one batch of windows through the network; yield the sessions that it ends."""
    answers = _hear(diarizer, [signal for _, _, signal in batch])
    for (job, start, signal), (posterior, embedding) in zip(batch, answers, strict=True):
        if job.failed:
            continue
        if not (np.isfinite(posterior).all() and np.isfinite(embedding).all()):
            job.failed = True
            job.windows.clear()
            time = job.offset + diarizer.grid.time_at(start)
            yield _diverged(job, f"the window at {time:.2f} s", diarizer.hears, signal)
            continue
        job.windows.append(listen(start, posterior, embedding, config.speech))
        advance(job.num_samples / diarizer.grid.sample_rate / len(job.spans))
        if len(job.windows) == len(job.spans):
            yield _join(job, diarizer, config)


def _diverged(job: _Job, what: str, hears: Kind, signal: Array | None = None) -> Failure:
    """Answers that are no numbers, and what they were given to."""
    told = f"{job.session_id}: {what} makes the network answer NaN or infinity"
    most = 0.0 if signal is None else np.abs(signal).max()
    if hears != AUDIO:
        told += (
            f", the largest number being {most:.3g}. Scale features as those the model was trained "
            "on; if they are, the model is damaged."
        )
        return Failure(job.session_id, told)
    detail = "" if signal is None else f", its loudest sample being {most:.3g}"
    told += (
        f"{detail}, but audio lies between -1 and 1. Scale it down; if it is no louder, the model "
        "is damaged."
    )
    return Failure(job.session_id, told)


def _hear(diarizer: Network, signals: Sequence[Array]) -> list[tuple[Array, Array]]:
    """Posterior (frame, slot) and embedding (frame, D) of each window."""
    if not signals:
        return []
    padded = np.zeros((len(signals), *max(signals, key=len).shape), dtype=np.float32)
    for row, signal in zip(padded, signals, strict=True):
        row[: len(signal)] = signal
    lengths = [len(signal) * diarizer.hears.grid.hop for signal in signals]
    posterior, embedding = diarizer.judge(padded, np.array(lengths, dtype=np.int64))
    finer = posterior.shape[1] // max(embedding.shape[1], 1)
    embedding = embedding.repeat(finer, axis=1)
    counts = [diarizer.grid.num_frames(length) for length in lengths]
    return [(p[:n], e[:n]) for p, e, n in zip(posterior, embedding, counts, strict=True)]


def _join(job: _Job, diarizer: Network, config: InferenceConfig) -> Diarization:
    """Join the windows of a session and cut its turns; less than one step of audio has none."""
    posterior = np.zeros((0, diarizer.num_slots), dtype=np.float32)
    if job.windows:
        settings = (config.max_speakers, config.min_similarity, config.speech)
        posterior = stitch(job.windows, *settings, config.num_speakers)
        job.windows.clear()
    return replace(_conclude(job, posterior, diarizer, config), num_windows=max(len(job.spans), 1))


def _conclude(
    job: _Job, posterior: Array, diarizer: Network, config: InferenceConfig
) -> Diarization:
    """Cut the turns of a session."""
    posterior = _quietened(posterior, config.num_speakers or config.max_speakers)
    duration = job.num_samples / diarizer.grid.sample_rate
    shift = diarizer.grid.frame_shift
    turns = to_turns(posterior, shift, config.postprocess, job.offset, duration)
    return Diarization(job.session_id, posterior, shift, turns, job.offset, duration)


def _quietened(posterior: Array, max_speakers: int) -> Array:
    """(frame, slot) with the columns of least speech at 0, of those beyond so many."""
    least = np.argsort(-posterior.sum(axis=0), kind="stable")[max_speakers:]
    if len(least):
        posterior = posterior.copy()
        posterior[:, least] = 0.0
    return posterior


def _only(results: Iterator[Diarization | Failure]) -> Diarization:
    """The one result, or its failure raised."""
    (result,) = results
    if isinstance(result, Failure):
        raise AudioError(result.reason)
    return result
