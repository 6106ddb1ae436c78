"""Streams: what is answered depends neither on how samples are fed nor on what came before."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import soundfile
import torch

from diarize.checkpoint import save_checkpoint
from diarize.cli import main
from diarize.config import load_config
from diarize.errors import AudioError, ConfigError
from diarize.formats.rttm import read_rttm
from diarize.frontend.log_mel import LogMel
from diarize.frontend.mel_stream import MelStream
from diarize.inference import Diarization, InferenceConfig, diarize_sessions, diarize_waveform
from diarize.manifest import Session
from diarize.model import Diarizer
from diarize.module import TrainingConfig
from diarize.postprocess import PostprocessConfig, to_turns
from diarize.stream import feed_together, finish_together
from diarize.streaming import StreamingDiarizer
from diarize.turns import in_order

TINY = Path(__file__).parents[1] / "conf" / "tiny.yaml"
SHORT = "chunk=4,left=1,right=2,fifo=6,cache=20,update=5"


@pytest.fixture(scope="module")
def diarizer() -> Diarizer:
    """A streaming model of random weights whose posteriors spread."""
    torch.manual_seed(3)
    config = load_config(
        TrainingConfig, [TINY], ["diarizer.front_end.mel.normalization=none"]
    ).diarizer
    diarizer = Diarizer(config).eval()
    with torch.no_grad():
        diarizer.head.output.weight.mul_(20)
    return diarizer


@pytest.fixture(scope="module")
def normalised() -> Diarizer:
    """A model like the packaged one: its features are normalised, streams begin with a prior."""
    torch.manual_seed(4)
    config = load_config(
        TrainingConfig, [TINY], ["diarizer.front_end.mel.prior_seconds=2"]
    ).diarizer
    diarizer = Diarizer(config).eval()
    with torch.no_grad():
        diarizer.head.output.weight.mul_(20)
    heard = torch.from_numpy(noise(10.0, seed=9))
    diarizer.front_end.mel.hear(heard[None], torch.tensor([len(heard)]))
    return diarizer


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    loudness = np.repeat(rng.uniform(0, 0.3, round(seconds * 4) + 1), 4000)
    samples = rng.normal(0, 1, round(seconds * 16000)) * loudness[: round(seconds * 16000)]
    return samples.astype(np.float32)


def streamed(diarizer: Diarizer, latency: str, fed: list[np.ndarray]) -> np.ndarray:
    stream = StreamingDiarizer(diarizer, latency)
    return np.concatenate([*(stream.feed(piece) for piece in fed), stream.finish()])


@pytest.mark.parametrize("num_samples", [0, 1, 159, 160, 415, 416, 800, 16000, 33333])
def test_features_are_those_of_the_whole_recording(diarizer: Diarizer, num_samples: int) -> None:
    samples = torch.from_numpy(noise(3.0)[:num_samples])
    mel = diarizer.front_end.mel
    with torch.no_grad():
        whole, _ = mel(samples[None], torch.tensor([num_samples]))
    for size in (97, 160, 5000):
        stream = MelStream(mel)
        parts = [stream.push(part) for part in samples.split(size)]
        found = torch.cat([*parts, stream.finish()])
        torch.testing.assert_close(found, whole[0], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("num_samples", [0, 1, 159, 160, 415, 416, 16000, 33333])
def test_normalised_features_do_not_depend_on_the_pieces(
    normalised: Diarizer, num_samples: int
) -> None:
    """Each frame is as if the recording ended with it."""
    samples = torch.from_numpy(noise(3.0)[:num_samples])
    mel = normalised.front_end.mel
    with torch.no_grad():
        whole, _ = mel(samples[None], torch.tensor([num_samples]), so_far=True)
    for size in (160, 480, 1120, 40000, 97):  # 1, 3 and 7 frames, all of them, part of one
        stream = MelStream(mel)
        parts = [stream.push(part) for part in samples.split(size)]
        found = torch.cat([*parts, stream.finish()])
        torch.testing.assert_close(found, whole[0], atol=2e-5, rtol=1e-5)


def test_normalised_pieces_of_any_size_give_the_same(normalised: Diarizer, tmp_path: Path) -> None:
    """Also those that come in another process; what is answered stands."""
    samples = noise(7.0)
    whole = streamed(normalised, SHORT, [samples])
    assert whole.shape == (88, 4) and whole.std() > 0.05
    np.testing.assert_allclose(
        streamed(normalised, SHORT, np.array_split(samples, 23)), whole, atol=1e-5
    )
    stream = StreamingDiarizer(normalised, SHORT)
    before = stream.feed(samples[:50_001])
    safetensors.torch.save_file(stream.state_dict(), tmp_path / "state")
    other = StreamingDiarizer(normalised, SHORT)
    other.load_state_dict(safetensors.torch.load_file(tmp_path / "state"))
    after = [np.concatenate([s.feed(samples[50_001:]), s.finish()]) for s in (stream, other)]
    np.testing.assert_array_equal(*after)
    np.testing.assert_allclose(np.concatenate([before, after[0]]), whole, atol=1e-5)
    louder = np.concatenate([samples[:50_001], 3 * noise(7.0, seed=1)])
    np.testing.assert_array_equal(
        streamed(normalised, SHORT, [louder[:50_001], louder[50_001:]])[: len(before)], before
    )


def test_normalised_silence_is_answered(normalised: Diarizer) -> None:
    for samples in (np.zeros(80000), np.concatenate([np.zeros(80000), noise(1.0)])):
        posterior = streamed(normalised, SHORT, [samples.astype(np.float32)])
        assert np.isfinite(posterior).all()


def test_a_prior_is_what_a_stream_begins_with(normalised: Diarizer) -> None:
    samples, mel = torch.from_numpy(noise(1.0)), normalised.front_end.mel
    first = MelStream(mel).push(samples)
    plain = MelStream(LogMel(replace(mel.config, normalization="none"))).push(samples)
    _, mean, variance = mel.heard
    # Of the first frames, little but the prior is known: 200 frames.
    torch.testing.assert_close(first[0], (plain[0] - mean) / variance.sqrt(), atol=0.05, rtol=0.03)


@pytest.mark.parametrize("latency", [SHORT, "1.04s"])
def test_pieces_of_any_size_give_the_same(diarizer: Diarizer, latency: str) -> None:
    samples = noise(9.0)
    whole = streamed(diarizer, latency, [samples])
    assert whole.shape == (-(-len(samples) // 1280), 4) and whole.std() > 0.05
    for seed in range(2):
        rng = np.random.default_rng(seed)
        parts = np.split(samples, np.sort(rng.integers(0, len(samples), 20)))
        np.testing.assert_allclose(streamed(diarizer, latency, parts), whole, atol=1e-6)


def test_answers_come_after_the_stated_wait(diarizer: Diarizer) -> None:
    stream = StreamingDiarizer(diarizer, SHORT)
    assert stream.wait == pytest.approx(6 * 0.08)
    samples, answered = noise(4.0), 0
    for second, piece in enumerate(np.split(samples, 16)):
        answered += len(stream.feed(piece))
        # What is a wait old has been answered, but for half a Fourier transform.
        assert answered * 0.08 >= (second + 1) * 0.25 - stream.wait - 0.016 - 1e-9
        assert answered * 0.08 <= (second + 1) * 0.25
    assert answered + len(stream.finish()) == 50
    assert len(stream.finish()) == 0


def test_what_is_answered_stands(diarizer: Diarizer) -> None:
    samples, other = noise(8.0), noise(8.0, seed=1)
    stream = StreamingDiarizer(diarizer, SHORT)
    before = stream.feed(samples[:64000])
    changed = np.concatenate([samples[:64000], other[64000:]])
    np.testing.assert_array_equal(streamed(diarizer, SHORT, [changed])[: len(before)], before)


@pytest.mark.parametrize("num_samples", [0, 100, 800, 1280, 2000])
def test_the_shortest_streams(diarizer: Diarizer, num_samples: int) -> None:
    posterior = streamed(diarizer, "1.04s", [noise(1.0)[:num_samples]])
    assert posterior.shape == (-(-(num_samples // 160) // 8), 4)
    assert np.isfinite(posterior).all()


def test_silence_clipping_and_an_offset_are_answered(diarizer: Diarizer) -> None:
    for samples in (np.zeros(80000), noise(5.0) * 50, noise(5.0) + 0.7):
        posterior = streamed(diarizer, SHORT, [samples.clip(-1, 1).astype(np.float32)])
        assert posterior.shape == (63, 4) and np.isfinite(posterior).all()


def test_a_long_stream_holds_no_more_than_a_short_one(diarizer: Diarizer) -> None:
    stream = StreamingDiarizer(diarizer, SHORT)
    held = []
    for second in range(60):
        stream.feed(noise(1.0, seed=second))
        mel, memory = stream._mel, stream._memory
        held.append(len(mel.emphasised) + len(stream._features) + len(memory))
    assert max(held[30:]) <= max(held[:30])
    assert len(stream._memory.cache) == 20 and len(stream._memory.fifo) <= 6


@pytest.mark.parametrize("place", [0, 700, 33_000, 90_001])
def test_a_stream_goes_on_from_its_state(diarizer: Diarizer, tmp_path: Path, place: int) -> None:
    samples = noise(8.0)
    whole = StreamingDiarizer(diarizer, SHORT)
    before = whole.feed(samples[:place])
    safetensors.torch.save_file(whole.state_dict(), tmp_path / "state")
    after = np.concatenate([whole.feed(samples[place:]), whole.finish()])
    other = StreamingDiarizer(diarizer, SHORT)
    other.load_state_dict(safetensors.torch.load_file(tmp_path / "state"))
    again = np.concatenate([other.feed(samples[place:]), other.finish()])
    np.testing.assert_array_equal(again, after)
    assert len(before) + len(after) == 100
    ended = StreamingDiarizer(diarizer, SHORT)
    ended.load_state_dict(whole.state_dict())
    with pytest.raises(AudioError, match="has ended"):
        ended.feed(samples)


def test_streams_fed_together_answer_as_alone(diarizer: Diarizer) -> None:
    """Of several lengths and latencies, one that begins later, one that is cut off."""
    latencies = [SHORT, "chunk=7,left=2,right=3,fifo=20,cache=24,update=9", SHORT, SHORT]
    audio = [noise(6.0, seed=1), noise(9.0, seed=2), noise(0.05, seed=3), noise(4.0, seed=4)]
    alone = [
        streamed(diarizer, *pair) for pair in zip(latencies, [[a] for a in audio], strict=True)
    ]
    streams = [StreamingDiarizer(diarizer, latency) for latency in latencies]
    answers: list[list[np.ndarray]] = [[] for _ in streams]
    for second in range(9):
        present = [i for i in range(4) if second >= (3 if i == 3 else 0)]
        pieces = []
        for index in present:
            first = 16_000 * (second - (3 if index == 3 else 0))
            pieces.append(audio[index][first : first + 16_000])
        heard = feed_together([streams[i] for i in present], pieces)
        for index, posterior in zip(present, heard, strict=True):
            answers[index].append(posterior)
    for parts, rest in zip(answers, finish_together(streams), strict=True):
        parts.append(rest)
    for parts, expected in zip(answers, alone, strict=True):
        np.testing.assert_allclose(np.concatenate(parts), expected, atol=2e-5)
    assert [len(expected) for expected in alone] == [75, 113, 1, 50]


def test_streams_of_several_models_are_not_fed_together(diarizer: Diarizer) -> None:
    other = Diarizer(diarizer.config)
    streams = [StreamingDiarizer(diarizer), StreamingDiarizer(other)]
    with pytest.raises(ConfigError, match="have several models"):
        feed_together(streams, [noise(1.0), noise(1.0)])
    with pytest.raises(ConfigError, match="a stream stands there twice"):
        feed_together([streams[0]] * 2, [noise(1.0), noise(1.0)])


def test_a_model_in_training_stays_so(diarizer: Diarizer) -> None:
    diarizer.train()
    streamed(diarizer, SHORT, [noise(2.0)])
    assert diarizer.training
    diarizer.eval()


def test_names_of_latencies_may_be_settings(diarizer: Diarizer) -> None:
    config = InferenceConfig(latency="mine", latencies={"mine": SHORT})
    found = diarize_waveform(diarizer, noise(3.0), config=config).posterior
    np.testing.assert_array_equal(found, streamed(diarizer, SHORT, [noise(3.0)]))


def test_without_turns_none_are_kept(diarizer: Diarizer) -> None:
    stream = StreamingDiarizer(diarizer, SHORT, with_turns=False)
    stream.feed(noise(6.0))
    other = StreamingDiarizer(diarizer, SHORT, with_turns=False)
    other.load_state_dict(stream.state_dict())
    np.testing.assert_array_equal(other.finish(), stream.finish())
    assert stream.turns() == []


def test_want_of_memory_is_told(diarizer: Diarizer, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(diarizer.front_end.subsampling, "forward", full)
    with pytest.raises(ConfigError, match="cpu: has no memory for 1 streams at once"):
        streamed(diarizer, SHORT, [noise(2.0)])


def test_where_one_of_them_is_faulty_none_takes_any_samples(diarizer: Diarizer) -> None:
    streams = [StreamingDiarizer(diarizer, SHORT) for _ in range(2)]
    with pytest.raises(AudioError, match="some are no numbers"):
        feed_together(streams, [noise(1.0), np.array([np.nan], dtype=np.float32)])
    assert [stream.duration for stream in streams] == [0.0, 0.0]


def test_files_are_streamed_together_as_alone(diarizer: Diarizer, tmp_path: Path) -> None:
    sessions = []
    for index, seconds in enumerate((3.0, 5.0, 4.0)):
        path = tmp_path / f"{index}.wav"
        soundfile.write(path, noise(seconds, seed=index), 16000, subtype="FLOAT")
        sessions.append(Session(str(index), path, where=str(path)))
    config = InferenceConfig(latency=SHORT, batch_size=2)
    for result in diarize_sessions(diarizer, sessions, config, progress=False):
        assert isinstance(result, Diarization)
        seconds = {"0": 3.0, "1": 5.0, "2": 4.0}[result.session_id]
        alone = streamed(diarizer, SHORT, [noise(seconds, seed=int(result.session_id))])
        np.testing.assert_allclose(result.posterior, alone, atol=2e-5)


def test_turns_are_told_once_and_are_those_of_the_whole(diarizer: Diarizer) -> None:
    postprocess = PostprocessConfig(onset=0.6, offset=0.5, min_duration_off=0.2)
    samples = noise(12.0)
    expected = to_turns(streamed(diarizer, SHORT, [samples]), 0.08, postprocess, 0.0, 12.0)
    stream = StreamingDiarizer(diarizer, SHORT, postprocess)
    told = []
    for piece in np.split(samples, 24):
        stream.feed(piece)
        told += stream.turns()
    early = len(told)
    # The rest comes from another process.
    other = StreamingDiarizer(diarizer, SHORT, postprocess)
    other.load_state_dict(stream.state_dict())
    for ending in (stream, other):
        ending.finish()
        turns = in_order(told + ending.turns())
        assert [(t.start, t.end, t.speaker) for t in turns] == [
            (pytest.approx(t.start), pytest.approx(t.end), t.speaker) for t in expected
        ]
        assert ending.turns() == []
    assert 0 < early < len(expected)


def test_turns_that_were_not_asked_for_are_kept_with_the_state(diarizer: Diarizer) -> None:
    stream = StreamingDiarizer(diarizer, SHORT)
    stream.feed(noise(8.0))
    other = StreamingDiarizer(diarizer, SHORT)
    other.load_state_dict(stream.state_dict())
    assert stream.turns() == other.turns() != []


def test_later_speakers_are_not_answered_for(diarizer: Diarizer) -> None:
    samples = noise(5.0)
    stream = StreamingDiarizer(diarizer, SHORT, max_speakers=2)
    posterior = np.concatenate([stream.feed(samples), stream.finish()])
    whole = streamed(diarizer, SHORT, [samples])
    np.testing.assert_array_equal(posterior[:, :2], whole[:, :2])
    assert not posterior[:, 2:].any() and whole[:, 2:].any()
    assert {turn.speaker for turn in stream.turns()} <= {"speaker_0", "speaker_1"}
    with pytest.raises(ConfigError, match="max_speakers is 0, but a stream tells of at least 1"):
        StreamingDiarizer(diarizer, SHORT, max_speakers=0)


@pytest.mark.slow
def test_memory_does_not_grow_over_hours(diarizer: Diarizer) -> None:
    """Forty minutes, a minute again and again; turns that never end are told every ten."""
    stream = StreamingDiarizer(diarizer, "chunk=340,left=0,right=40,fifo=40,cache=188,update=300")
    minute = noise(60.0)
    sizes = []
    for _ in range(40):
        stream.feed(minute)
        stream.turns()
        sizes.append(sum(tensor.nbytes for tensor in stream.state_dict().values()))
    assert max(sizes[20:]) <= max(sizes[:20]) + 2**14
    assert max(sizes) < 2**21


def test_a_state_of_another_model_is_refused(diarizer: Diarizer, normalised: Diarizer) -> None:
    for one, other, message in (
        (diarizer, normalised, "mel.normalization none, but the model's is per_feature"),
        (normalised, diarizer, "mel.normalization per_feature, but the model's is none"),
    ):
        with pytest.raises(ConfigError, match=message):
            StreamingDiarizer(other).load_state_dict(StreamingDiarizer(one).state_dict())
    state = StreamingDiarizer(diarizer).state_dict() | {"cache": torch.zeros(0, 7)}
    with pytest.raises(
        ConfigError, match=r"widths \(7, 80\) and 4 slots, but the model's are \(\d+, 80\) and 4"
    ):
        StreamingDiarizer(diarizer).load_state_dict(state)
    state = StreamingDiarizer(diarizer, "10s").state_dict()
    with pytest.raises(
        ConfigError, match=r"latency of \[124, 1, 1, .*but the stream has \[6, 1, 7"
    ):
        StreamingDiarizer(diarizer, "1.04s").load_state_dict(state)


def test_sessions_are_streamed_as_they_come(diarizer: Diarizer) -> None:
    samples = noise(7.0)
    config = InferenceConfig(latency=SHORT)
    result = diarize_waveform(diarizer, samples, config=config)
    np.testing.assert_allclose(result.posterior, streamed(diarizer, SHORT, [samples]), atol=1e-6)


def test_infer_streams_at_the_latency_asked_for(
    diarizer: Diarizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save_checkpoint(diarizer, tmp_path / "model")
    audio = tmp_path / "talk.wav"
    soundfile.write(audio, noise(6.0), 16000, subtype="FLOAT")
    command = ["infer", str(audio), "--model", str(model), "--posteriors", str(tmp_path)]
    assert main([*command, "--latency", SHORT, "--output", str(tmp_path)]) == 0
    assert read_rttm(tmp_path / "talk.rttm").keys() <= {"talk"}
    with np.load(tmp_path / "talk.npz") as stored:
        found = stored["posterior"]
    assert found.shape == (75, 4)
    assert main([*command, "--output", str(tmp_path)]) == 0
    with np.load(tmp_path / "talk.npz") as stored:
        assert np.abs(stored["posterior"] - found).max() > 0.01  # offline, all at once
    with pytest.raises(SystemExit):
        main([*command, "--latency", SHORT, "--window", "3"])
    assert "--window and --overlap are for what is judged in windows" in capsys.readouterr().err


def test_models_that_need_the_whole_recording_do_not_stream() -> None:
    settings = load_config(TrainingConfig, [TINY]).diarizer
    message = r"mel\.normalization per_feature and no prior, but .* convert --prior-of\)"
    with pytest.raises(ConfigError, match=message):
        StreamingDiarizer(Diarizer(settings))
    for normalization in ("per_feature", "none"):
        settings.front_end["mel"] = {
            "normalization": normalization, "peak_scaling": "item", "prior_seconds": 5.0
        }  # fmt: skip
        with pytest.raises(ConfigError, match=r"mel\.peak_scaling item, but a stream needs none"):
            StreamingDiarizer(Diarizer(settings))


def test_what_cannot_be_streamed(diarizer: Diarizer) -> None:
    with pytest.raises(ConfigError, match="latency is offline, but a stream has no end"):
        StreamingDiarizer(diarizer, "offline")
    with pytest.raises(ConfigError, match=r"cache is 15, but 4 speakers with 3 rows .* need 16"):
        StreamingDiarizer(diarizer, "cache=15")
    stream = StreamingDiarizer(diarizer)
    for samples in (np.zeros((2, 100)), np.array([0.0, np.nan])):
        with pytest.raises(AudioError, match=r"samples have shape \(2"):
            stream.feed(samples)
    stream.finish()
    with pytest.raises(AudioError, match="has ended, but samples come"):
        stream.feed(np.zeros(5))
