"""Recordings of any length to turns: with a network that hears tones, and with a random one."""

import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from diarize import inference, recording
from diarize.config import load_config
from diarize.errors import AudioError, ConfigError, FeatureError, ManifestError
from diarize.frames import FrameGrid
from diarize.inference import (
    Diarization,
    Failure,
    InferenceConfig,
    choose_device,
    diarize_features,
    diarize_file,
    diarize_session,
    diarize_sessions,
    diarize_waveform,
)
from diarize.manifest import Session
from diarize.model import Diarizer, DiarizerConfig
from diarize.postprocess import PostprocessConfig
from diarize.recording import AUDIO, Kind
from diarize.turns import Turn

HOP = 1280
TONES = 8  # speaker k sounds at 100 * (k + 1) Hz: whole periods per frame, so none leaks


class ToneDiarizer(nn.Module):
    """A faultless network: slots are tones, in order of arrival in the window."""

    grid = FrameGrid(16000, HOP, 160)
    hears = AUDIO
    judge = Diarizer.judge

    def __init__(self, num_slots: int = 4) -> None:
        super().__init__()
        self.num_slots = num_slots
        self.inference: dict[str, float] = {}
        self.postprocess: dict[str, float] = {}
        self.batches: list[list[int]] = []
        self.anchor = nn.Parameter(torch.zeros(1))

    def embed(self, waveform: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        self.batches.append(num_samples.tolist())
        num_frames = torch.tensor([self.grid.num_frames(n) for n in num_samples.tolist()])
        missing = int(num_frames.max()) * HOP - waveform.shape[1]
        frames = nn.functional.pad(waveform, (0, max(missing, 0))).unfold(1, HOP, HOP)
        amplitude = torch.fft.rfft(frames)[..., 8 : 8 * (TONES + 1) : 8].abs() * 2 / HOP
        return (amplitude > 0.02).float(), num_frames

    def classify(self, embedding: Tensor, num_frames: Tensor) -> Tensor:
        logits = torch.full((*embedding.shape[:2], self.num_slots), -12.0)
        for item, heard in enumerate(embedding):
            heard = heard[: num_frames[item]]
            spoken = [k for k in range(TONES) if heard[:, k].any()]
            order = sorted(spoken, key=lambda k: int(heard[:, k].argmax()))[: self.num_slots]
            logits[item, : len(heard), : len(order)] += 24.0 * heard[:, order]
        return logits


def played(activity: np.ndarray) -> np.ndarray:
    """(frame, speaker) -> (sample,): a tone for each speaker, sounding in his frames."""
    time = np.arange(len(activity) * HOP) / 16000
    tones = [0.05 * np.sin(2 * np.pi * 100 * (k + 1) * time) for k in range(activity.shape[1])]
    return (np.repeat(activity, HOP, axis=0) * np.stack(tones, axis=1)).sum(axis=1).astype("f4")


def drawn(*rows: str) -> np.ndarray:
    """(frame, speaker) from one drawing per speaker; every mark stands for four frames."""
    return np.repeat(np.array([[mark == "#" for mark in row] for row in rows]).T, 4, axis=0)


def turns_of(activity: np.ndarray, offset: float = 0.0) -> set[tuple[float, float, int]]:
    """Start, end (10 ms early where it is that of the session) and speaker of each stretch."""
    found = set()
    for speaker, column in enumerate(activity.T):
        edges = np.flatnonzero(np.diff(np.concatenate([[0], column, [0]])))
        for start, end in edges.reshape(-1, 2):
            last = end * 0.08 - (0.01 if end == len(column) else 0.0)
            found.add((round(offset + start * 0.08, 2), round(offset + last, 2), speaker))
    return found


def read(turns: list[Turn]) -> set[tuple[float, float, int]]:
    return {(t.start, t.end, int(t.speaker.removeprefix("speaker_"))) for t in turns}


LONG = drawn(
    "####....##....##....##......##..####..",
    "....##...............#..###.....##....",
    "......##........##..........##......##",
    "........................#.............",
)
SHORT_WINDOWS = InferenceConfig(window=4.8, overlap=1.6, batch_size=3)


@pytest.fixture(scope="module")
def tiny() -> Diarizer:
    torch.manual_seed(0)
    return Diarizer(load_config(DiarizerConfig, values=tiny_settings()))


def tiny_settings() -> dict:
    layers = {"width": 32, "num_layers": 1, "num_heads": 2}
    front_end = {
        "_target_": "diarize.frontend.fastconformer.FastConformer",
        "subsampling_channels": 8,
        **layers,
    }
    encoder = {"_target_": "diarize.encoder.transformer.Transformer", "inner": 32, **layers}
    return {"front_end": front_end, "encoder": encoder}


def write(path: Path, waveform: np.ndarray, sample_rate: int = 16000) -> Path:
    soundfile.write(path, waveform, sample_rate)
    return path


def test_a_long_session_is_stitched_into_the_truth_though_some_are_silent_where_windows_meet():
    result = diarize_waveform(ToneDiarizer(), played(LONG), config=SHORT_WINDOWS)
    assert np.array_equal(result.posterior > 0.5, LONG)
    assert read(result.turns) == turns_of(LONG)
    assert result.posterior.dtype == np.float32
    assert (result.frame_shift, result.duration) == (0.08, len(LONG) * 0.08)


def test_more_speakers_than_slots_may_speak_in_a_long_session():
    # Windows of 15 marks never meet more than two of them.
    truth = drawn(*(" " * 14 * k + "#" * 14 + " " * 14 * (3 - k) for k in range(4)))
    result = diarize_waveform(ToneDiarizer(2), played(truth), config=SHORT_WINDOWS)
    assert np.array_equal(result.posterior > 0.5, truth)


def test_a_session_in_one_window_is_what_the_network_says(tiny: Diarizer, a_session):
    waveform, _ = a_session(2, 7.13)
    result = diarize_waveform(tiny, waveform)
    tiny.eval()
    expected, num_frames = tiny.posterior(
        torch.from_numpy(waveform)[None], torch.tensor([waveform.size])
    )
    assert result.posterior.shape == (num_frames.item(), 4)
    np.testing.assert_allclose(result.posterior, expected[0].numpy(), atol=1e-6)


def test_batch_of_one_equals_batch_of_many(tiny: Diarizer, tmp_path: Path, a_session):
    sessions = [
        Session(f"s{seconds}", write(tmp_path / f"{seconds}.wav", a_session(3, seconds)[0]))
        for seconds in (0.05, 1.0, 6.5, 9.3, 17.0)
    ]
    config = InferenceConfig(window=5.0)
    one, many = (
        {
            result.session_id: result.posterior
            for result in diarize_sessions(tiny, sessions, replace(config, batch_size=size), False)
        }
        for size in (1, 7)
    )
    assert list(one) == list(many) == [s.session_id for s in sessions]
    for name, posterior in one.items():
        np.testing.assert_allclose(posterior, many[name], atol=2e-5)


def test_short_sessions_go_first_and_share_batches(tmp_path: Path):
    diarizer = ToneDiarizer()
    sessions = [
        Session(str(n), write(tmp_path / f"{n}.wav", np.zeros(n * HOP))) for n in (90, 30, 10, 20)
    ]
    results = list(diarize_sessions(diarizer, sessions, SHORT_WINDOWS, progress=False))
    assert [r.session_id for r in results] == ["10", "20", "30", "90"]
    # 90 frames are two windows of 60, whose starts are 30 frames apart.
    assert diarizer.batches == [[10 * HOP, 20 * HOP, 30 * HOP], [60 * HOP, 60 * HOP]]


def test_audio_is_read_window_by_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    audio = write(tmp_path / "long.wav", played(LONG), 16000)
    spans = []

    def spying(path, offset, duration, channel):
        spans.append((offset, duration))
        return real(path, offset, duration, channel)

    real = recording.read_audio
    monkeypatch.setattr(recording, "read_audio", spying)
    result = diarize_session(ToneDiarizer(), Session("long", audio), SHORT_WINDOWS)
    assert read(result.turns) == turns_of(LONG)
    assert len(spans) > 3 and max(duration for _, duration in spans) == pytest.approx(4.8)


def test_offset_and_duration_are_honoured_and_turns_stand_in_recording_time(tmp_path: Path):
    audio = write(tmp_path / "long.flac", played(LONG))
    session = Session("part", audio, offset=1.28, duration=6.4)
    result = diarize_session(ToneDiarizer(), session, SHORT_WINDOWS)
    part = LONG[16:96]
    part = part[:, np.argsort(np.where(part.any(axis=0), part.argmax(axis=0), 99), kind="stable")]
    assert (result.offset, result.duration) == (1.28, 6.4)
    assert read(result.turns) == turns_of(part, 1.28)


def test_other_rates_and_channels_are_heard_alike(tmp_path: Path):
    soxr = pytest.importorskip("soxr")
    waveform = played(LONG)
    upsampled = soxr.resample(waveform, 16000, 44100)
    stereo = np.stack([upsampled, np.zeros_like(upsampled)], axis=1)
    audio = write(tmp_path / "stereo.wav", stereo, 44100)
    first, in_memory, silent = (
        {(round(s, 1), round(e, 1), k) for s, e, k in read(turns)}
        for turns in (
            diarize_file(ToneDiarizer(), audio),
            diarize_waveform(ToneDiarizer(), stereo, 44100).turns,
            diarize_session(ToneDiarizer(), Session("s", audio, channel=1)).turns,
        )
    )
    assert first == in_memory and len(first) == len(turns_of(LONG))
    assert silent == set()


def test_each_session_hears_its_channel(tmp_path: Path):
    audio = write(tmp_path / "two.wav", np.stack([played(LONG), 0 * played(LONG)], axis=1))
    sessions = [Session(f"s{channel}", audio, channel=channel) for channel in (0, 1, 2)]
    found = {r.session_id: r for r in diarize_sessions(ToneDiarizer(), sessions, None, False)}
    assert read(found["s0"].turns) == turns_of(LONG) and found["s1"].turns == []
    assert isinstance(found["s2"], Failure)
    assert "two.wav: channel 2 is asked for, but there are 2, counted from 0" in found["s2"].reason


def test_one_bad_file_is_reported_and_the_others_are_done(tmp_path: Path):
    good = write(tmp_path / "good.wav", played(LONG))
    torn = write(tmp_path / "torn.flac", np.random.default_rng(0).random(60000) / 2)
    torn.write_bytes(torn.read_bytes()[:40000])
    (tmp_path / "noise.wav").write_bytes(b"no audio at all")
    names = ["absent", "good", "torn", "noise", "good2"]
    paths = [tmp_path / "absent.wav", good, torn, tmp_path / "noise.wav", good]
    sessions = [Session(name, path) for name, path in zip(names, paths, strict=True)]
    results = {r.session_id: r for r in diarize_sessions(ToneDiarizer(), sessions, None, False)}
    assert sorted(results) == sorted(names)
    failed = {name: r.reason for name, r in results.items() if isinstance(r, Failure)}
    assert sorted(failed) == ["absent", "noise", "torn"]
    assert all(str(tmp_path / name) in reason for name, reason in failed.items())
    assert read(results["good"].turns) == read(results["good2"].turns) == turns_of(LONG)


def test_windows_are_let_go_with_their_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    heard = []

    def remembering(*args):
        window = real(*args)
        heard.append(weakref.ref(window))
        return window

    real = inference.listen
    monkeypatch.setattr(inference, "listen", remembering)
    sessions = [Session(name, write(tmp_path / f"{name}.flac", played(LONG))) for name in "abc"]
    torn = sessions[1].audio  # its first windows can be read
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size * 3 // 4])
    config = replace(SHORT_WINDOWS, batch_size=1)
    counts = {}
    for result in diarize_sessions(ToneDiarizer(), sessions, config, progress=False):
        counts[type(result), result.session_id] = len(heard)
        assert not any(window() for window in heard)
    assert list(counts) == [(Diarization, "a"), (Failure, "b"), (Diarization, "c")]
    assert counts[Failure, "b"] > counts[Diarization, "a"] > 3


def test_a_failure_of_a_single_session_is_raised(tmp_path: Path):
    with pytest.raises(AudioError, match=r"gone.wav: cannot be read"):
        diarize_file(ToneDiarizer(), tmp_path / "gone.wav")


@pytest.mark.parametrize(
    ("offset", "duration", "message"),
    [
        (0.0, 9.0, r"from 0.00 s to 9.00 s, but its audio lasts 1.60 s"),
        (5.0, None, r"from 5.00 s to 1.60 s, but its audio lasts 1.60 s"),
    ],
)
def test_a_span_outside_its_audio_is_refused(tmp_path: Path, offset, duration, message):
    audio = write(tmp_path / "a.wav", np.zeros(20 * HOP))
    session = Session("a", audio, offset=offset, duration=duration, where="m.jsonl:3")
    with pytest.raises(AudioError, match=f"m.jsonl:3: session 'a' lasts {message}"):
        diarize_session(ToneDiarizer(), session)


@pytest.mark.parametrize(("num_samples", "num_frames"), [(1, 0), (159, 0), (160, 1), (1279, 1)])
def test_less_than_a_frame_of_audio(tiny: Diarizer, num_samples: int, num_frames: int):
    result = diarize_waveform(tiny, np.full(num_samples, 0.1))
    assert result.posterior.shape == (num_frames, 4)
    assert np.isfinite(result.posterior).all()
    assert all(0 <= t.start < t.end <= result.duration for t in result.turns)


def test_silence_has_no_turns():
    assert diarize_waveform(ToneDiarizer(), np.zeros(HOP * 500), config=SHORT_WINDOWS).turns == []


def test_a_waveform_without_samples_is_refused():
    with pytest.raises(AudioError, match="call: holds no samples"):
        diarize_waveform(ToneDiarizer(), np.zeros(0), session_id="call")


def test_a_file_without_samples_is_refused(tmp_path: Path):
    audio = write(tmp_path / "none.wav", np.zeros(0))
    with pytest.raises(AudioError, match="none.wav: holds no samples"):
        diarize_file(ToneDiarizer(), audio)


def test_a_waveform_that_holds_no_numbers_is_refused():
    with pytest.raises(AudioError, match="call: the waveform holds NaN .* Look at what made it"):
        diarize_waveform(ToneDiarizer(), np.full(9, np.nan), session_id="call")


def test_a_network_that_answers_nan_fails_that_session_alone(tiny: Diarizer, tmp_path: Path):
    waveform = np.random.default_rng(0).random(10 * 16000).astype("f4") - 0.5
    good = write(tmp_path / "good.wav", waveform)
    waveform[7 * 16000] = 1e30  # finite, but its square is not
    soundfile.write(tmp_path / "loud.wav", waveform, 16000, subtype="FLOAT")
    sessions = [Session("loud", tmp_path / "loud.wav"), Session("good", good)]
    for batch_size in (1, 2, 20):
        config = InferenceConfig(window=2.0, overlap=1.5, batch_size=batch_size)
        results = list(diarize_sessions(tiny, sessions, config, progress=False))
        assert [type(result) for result in results] == [Failure, Diarization]
        assert results[0].reason == (
            "loud: the window at 5.12 s makes the network answer NaN or infinity, its loudest "
            "sample being 1e+30, but audio lies between -1 and 1. Scale it down; if it is no "
            "louder, the model is damaged."
        )
        assert np.isfinite(results[1].posterior).all()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_a_batch_that_does_not_fit_names_the_way_out(
    error: RuntimeError, monkeypatch: pytest.MonkeyPatch
) -> None:
    diarizer = ToneDiarizer()

    def full(*_: Tensor) -> None:
        raise error

    monkeypatch.setattr(diarizer, "embed", full)
    with pytest.raises(ConfigError, match="memory for 1 windows of 40 s at once. Lower the batch"):
        diarize_waveform(diarizer, np.zeros(40 * 16000))


def test_a_waveform_of_another_shape_is_refused():
    with pytest.raises(AudioError, match=r"shape \(2, 16000\).*\(sample, channel\)"):
        diarize_waveform(ToneDiarizer(), np.zeros((2, 16000)))


def test_a_result_says_in_how_many_windows_it_was_judged(tiny: Diarizer) -> None:
    config = InferenceConfig(window=2.0, overlap=1.0)
    for seconds, num_windows in ((0.0, 1), (2.0, 1), (3.0, 3), (5.5, 5)):
        samples = np.zeros(max(round(seconds * 16000), 1), dtype=np.float32)
        assert diarize_waveform(tiny, samples, config=config).num_windows == num_windows


def test_the_model_recommends_its_own_settings():
    diarizer = ToneDiarizer()
    diarizer.inference = {"window": 30.0, "min_similarity": 0.3}
    diarizer.postprocess = {"onset": 0.6}
    config = InferenceConfig.of(diarizer)
    assert (config.window, config.min_similarity, config.postprocess.onset) == (30.0, 0.3, 0.6)
    assert config.overlap is None and config.postprocess.offset == 0.5
    diarizer.inference = {"windwo": 30.0}
    with pytest.raises(ConfigError, match="Did you mean window"):
        InferenceConfig.of(diarizer)


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match=r"overlap is 20 s.* window of 10 s"):
        InferenceConfig(window=10.0, overlap=20.0)
    for window, written in ((0.0, "0"), (np.inf, "inf"), (np.nan, "nan")):
        with pytest.raises(ConfigError, match=rf"^window is {written} s.* positive and finite\."):
            InferenceConfig(window=window, overlap=1.0)
    with pytest.raises(ConfigError, match=r"^overlap is nan s.* window of 90 s"):
        InferenceConfig(overlap=np.nan)


def test_beyond_max_speakers_those_of_least_speech_are_silent(tiny: Diarizer, a_session):
    waveform, _ = a_session(3, 6.0)
    free = diarize_waveform(tiny, waveform, config=InferenceConfig())
    order = np.argsort(-free.posterior.sum(axis=0))
    for most in (1, 2):
        found = diarize_waveform(tiny, waveform, config=InferenceConfig(max_speakers=most))
        kept, silent = order[:most], order[most:]
        np.testing.assert_array_equal(found.posterior[:, kept], free.posterior[:, kept])
        assert not found.posterior[:, silent].any()
        assert len({turn.speaker for turn in found.turns}) <= most


def test_postprocessing_is_applied():
    config = replace(SHORT_WINDOWS, postprocess=replace(SHORT_WINDOWS.postprocess, pad_offset=0.2))
    turns = diarize_waveform(ToneDiarizer(), played(LONG), config=config).turns
    assert min(t.end for t in turns) == pytest.approx(16 * 0.08 + 0.2)
    assert max(t.end for t in turns) <= len(LONG) * 0.08


class FadingDiarizer(ToneDiarizer):
    """One speaker: the first tone is he for certain, the second perhaps."""

    def classify(self, embedding: Tensor, num_frames: Tensor) -> Tensor:
        posterior = (embedding[..., :2] * torch.tensor([0.9, 0.4])).sum(-1, keepdim=True)
        return posterior.clamp(0.01).logit()


def test_a_turn_is_held_through_windows_that_would_not_begin_it():
    activity = drawn("##" + " " * 34, "  " + "#" * 34)
    thresholds = PostprocessConfig(onset=0.6, offset=0.3)
    config = replace(SHORT_WINDOWS, postprocess=thresholds)
    result = diarize_waveform(FadingDiarizer(1), played(activity), config=config)
    assert [(turn.start, turn.end) for turn in result.turns] == [(0.0, len(activity) * 0.08 - 0.01)]
    # Whatever thresholds are asked for, those that are asked for later find the same posteriors.
    plain = diarize_waveform(FadingDiarizer(1), played(activity), config=SHORT_WINDOWS)
    np.testing.assert_allclose(plain.posterior, result.posterior, rtol=1e-5)


@pytest.mark.parametrize(
    ("onset", "offset", "speech"), [(0.9, 0.8, 0.5), (0.6, 0.3, 0.3), (0.2, 0.3, 0.2), (0, 0, 0.1)]
)
def test_what_makes_turns_counts_as_speech_and_silence_never(onset, offset, speech):
    config = InferenceConfig(postprocess=PostprocessConfig(onset=onset, offset=offset))
    assert config.speech == speech


def test_the_model_keeps_its_mode(tiny: Diarizer):
    tiny.train()
    first = diarize_waveform(tiny, np.random.default_rng(0).random(20000) - 0.5).posterior
    assert tiny.training
    again = diarize_waveform(tiny, np.random.default_rng(0).random(20000) - 0.5).posterior
    assert np.array_equal(first, again)


def test_devices_by_name():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ConfigError, match=r"device 'gpu7' cannot be used .* Try 'auto' or 'cpu'"):
        choose_device("gpu7")


def test_as_many_speakers_as_are_known(tiny: Diarizer, a_session) -> None:
    waveform, _ = a_session(3, 6.0)
    known = diarize_waveform(tiny, waveform, config=InferenceConfig(num_speakers=2))
    least = diarize_waveform(tiny, waveform, config=InferenceConfig(max_speakers=2))
    np.testing.assert_array_equal(known.posterior, least.posterior)
    with pytest.raises(ConfigError, match="num_speakers is 0, but at least 1 speaks"):
        InferenceConfig(num_speakers=0)


# ---- features


class RowDiarizer(ToneDiarizer):
    """A faultless network of features: a class is a column, slots are in order of arrival."""

    hears = Kind.of_features(TONES, 0.08)
    grid = hears.grid

    def embed(self, signal: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        self.batches.append(num_samples.tolist())
        return (signal > 0.5).float(), num_samples // self.grid.hop


def as_rows(activity: np.ndarray) -> np.ndarray:
    """(frame, class) -> (frame, TONES), a column for each class, with noise."""
    rows = np.random.default_rng(0).normal(0.0, 0.05, (len(activity), TONES))
    rows[:, : activity.shape[1]] += activity
    return rows.astype(np.float32)


@pytest.fixture
def array(tmp_path: Path) -> Session:
    np.save(tmp_path / "long.npy", as_rows(LONG))
    return Session("long", tmp_path / "long.npy", where="m:1", frame_shift=0.08)


def only(session: Session, diarizer: Diarizer, **keys) -> Failure:
    (failure,) = diarize_sessions(diarizer, [session], SHORT_WINDOWS, progress=False, **keys)
    assert isinstance(failure, Failure) and failure.session_id == session.session_id
    return failure


def test_a_long_array_is_stitched_into_the_truth(array: Session):
    in_memory = diarize_features(RowDiarizer(), as_rows(LONG), SHORT_WINDOWS)
    for result in (in_memory, diarize_session(RowDiarizer(), array, SHORT_WINDOWS)):
        assert np.array_equal(result.posterior > 0.5, LONG)
        assert read(result.turns) == turns_of(LONG)
        assert (result.frame_shift, result.duration) == (0.08, len(LONG) * 0.08)
        assert result.num_windows > 3


def test_an_array_in_one_window_is_what_the_network_says(array: Session):
    whole, parts = (
        diarize_session(RowDiarizer(), array, InferenceConfig(window=w)) for w in (90.0, 4.8)
    )
    assert whole.num_windows == 1 and np.array_equal(whole.posterior > 0.5, LONG)
    np.testing.assert_allclose(parts.posterior[:, :4], whole.posterior, atol=1e-3)


def test_rows_are_read_window_by_window(array: Session, monkeypatch: pytest.MonkeyPatch):
    counts = []
    real = recording.read_features
    monkeypatch.setattr(
        recording,
        "read_features",
        lambda path, first, count, shift: counts.append(count) or real(path, first, count, shift),
    )
    diarize_session(RowDiarizer(), array, SHORT_WINDOWS)
    assert len(counts) > 3 and set(counts) == {60}


def test_a_span_of_an_array_begins_and_ends_where_rows_do(array: Session):
    session = replace(array, offset=1.3, duration=6.41)  # rows 16 to 96
    result = diarize_session(RowDiarizer(), session, SHORT_WINDOWS)
    part = LONG[16:96]
    part = part[:, np.argsort(np.where(part.any(axis=0), part.argmax(axis=0), 99), kind="stable")]
    assert (result.offset, result.duration) == (1.28, 6.4)
    assert read(result.turns) == turns_of(part, 1.28)


def test_arrays_in_a_batch_are_as_alone(array: Session):
    parts = [replace(array, session_id=str(n), duration=n * 0.8) for n in (2, 5, 3, 9)]
    together = {
        result.session_id: result
        for result in diarize_sessions(RowDiarizer(), parts, SHORT_WINDOWS, progress=False)
    }
    for session in parts:
        alone = diarize_session(RowDiarizer(), session, replace(SHORT_WINDOWS, batch_size=1))
        assert np.array_equal(together[session.session_id].posterior, alone.posterior)
        assert together[session.session_id].turns == alone.turns


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"frame_shift": 0.1},
            "m:1: session 'long' is features of 8 numbers every 0.1 s, but the model hears "
            "features of 8 numbers every 0.08 s. Give",
        ),
        (
            {"duration": 30.0},
            "m:1: session 'long' lasts from 0.00 s to 30.00 s, but its 152 rows of features last "
            "12.16 s. Correct",
        ),
        ({"offset": 12.2}, "session 'long' lasts from 12.20 s to 12.16 s, but its 152 rows of fea"),
        ({"duration": 0.03}, "session 'long' lasts from 0.00 s to 0.03 s, but holds no row of fea"),
        ({"audio": Path("gone.npy")}, "gone.npy: cannot be read (No such file or directory)."),
    ],
)
def test_arrays_that_cannot_be_diarized(array: Session, change: dict, told: str):
    assert told in only(replace(array, **change), RowDiarizer()).reason


def test_audio_and_features_are_not_taken_for_each_other(array: Session, tmp_path: Path):
    audio = write(tmp_path / "a.wav", played(LONG))
    told = "m:1: session 'a' is audio, but the model hears features of 8 numbers every 0.08 s. Give"
    assert told in only(Session("a", audio, where="m:1"), RowDiarizer()).reason
    told = "session 'long' is features of 8 numbers every 0.08 s, but the model hears audio. Give"
    assert told in only(array, ToneDiarizer()).reason
    with pytest.raises(
        ManifestError, match=r"waveform is audio, but the model hears features of 8"
    ):
        diarize_waveform(RowDiarizer(), played(LONG))
    with pytest.raises(
        ManifestError, match=r"features is features of 3 numbers .* of 8 numbers ev"
    ):
        diarize_features(RowDiarizer(), np.zeros((5, 3)))
    told = only(replace(array, channel=1), RowDiarizer()).reason
    assert "channel 1 is asked for, but features" in told


@pytest.mark.parametrize("shape", [(5,), (2, 5, TONES), (0, TONES), (5, 0)])
def test_an_array_of_another_shape_is_refused(shape: tuple[int, ...]):
    with pytest.raises(FeatureError, match=rf"have shape \({shape[0]},.*, but \(row, dim\) is"):
        diarize_features(RowDiarizer(), np.zeros(shape))


def test_rows_that_are_no_numbers_are_refused(array: Session):
    rows = as_rows(LONG)
    rows[100, 2] = np.nan
    with pytest.raises(
        FeatureError, match=r"features: row 100 \(8\.00 s\) holds NaN or infinity, b"
    ):
        diarize_features(RowDiarizer(), rows)
    np.save(array.audio, rows)
    assert "long.npy: row 100 (8.00 s) holds nan, but" in only(array, RowDiarizer()).reason


def test_features_that_make_answers_no_numbers_are_told(array: Session):
    class Diverging(RowDiarizer):
        def classify(self, embedding: Tensor, num_frames: Tensor) -> Tensor:
            return super().classify(embedding, num_frames) * float("nan")

    np.save(array.audio, as_rows(LONG) + 5e20)
    reason = only(array, Diverging()).reason
    assert "long: the window at 0.00 s makes the network answer NaN or infinity, the" in reason
    assert "the largest number being 5e+20" in reason and "audio" not in reason
