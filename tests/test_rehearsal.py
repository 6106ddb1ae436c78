"""Training through the speaker cache: a stream's answers, with gradients, and what is drawn."""

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from diarize.config import load_config
from diarize.errors import ConfigError
from diarize.inference import InferenceConfig
from diarize.latency import StreamingConfig, parse_latency
from diarize.model import Diarizer, Estimates
from diarize.module import TrainingConfig
from diarize.rehearsal import Rehearsal, RehearsalConfig, _Limits, _RehearsedCache
from diarize.streaming import StreamingDiarizer

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = Path(__file__).parents[1] / "conf" / "tiny.yaml"
SHORT = "chunk=4,left=1,right=2,fifo=6,cache=20,update=5"
NO_DROPOUT = {
    "front_end.input_dropout": 0,
    "front_end.dropout": 0,
    "front_end.attention_dropout": 0,
    "front_end.mel.dither": 0,
    "front_end.mel.normalization": "none",
    "encoder.dropout": 0,
    "encoder.attention_dropout": 0,
    "head_dropout": 0,
}
STACKED = {
    "front_end._target_": "diarize.frontend.stacking.Stacking",
    "front_end.width": 24,
    "front_end.mel.num_mels": 20,
    "encoder.width": 24,
    "encoder.inner": 48,
    "encoder.num_layers": 2,
    "encoder.num_heads": 4,
    "encoder.pre_norm": True,
    "encoder.positions": "rotary",
    "head_width": 12,
    "upsampling": 4,
    "learned_silence": True,
    "num_slots": 3,
}
"""As Nemotron-3 is built."""


def tiny(stacked: bool = False, **changes: object) -> Diarizer:
    """A streaming model of random weights whose posteriors spread, without dropout."""
    torch.manual_seed(3)
    settings: dict[str, object] = dict(NO_DROPOUT)
    if stacked:
        settings = {n: v for n, v in settings.items() if "front_end" not in n or "mel" in n}
        settings |= STACKED
    given = [f"diarizer.{name}={value}" for name, value in (settings | changes).items()]
    config = load_config(TrainingConfig, [] if stacked else [TINY], given)
    diarizer = Diarizer(config.diarizer).eval()
    with torch.no_grad():
        diarizer.head.output.weight.mul_(20)
        if diarizer.silence is not None:
            diarizer.silence.normal_()
    return diarizer


def noise(*seconds: float) -> tuple[Tensor, Tensor]:
    """A batch of noise of changing loudness, zero in padding; what is there before dither."""
    rng = np.random.default_rng(0)
    num_samples = torch.tensor([round(s * 16000) for s in seconds])
    signal = torch.zeros(len(seconds), int(num_samples.max()))
    for row, length in zip(signal, num_samples.tolist(), strict=True):
        loudness = np.repeat(rng.uniform(0, 0.3, length // 4000 + 1), 4000)[:length]
        row[:length] = torch.from_numpy(rng.normal(0, 1, length) * loudness)
    return signal, num_samples


def streamed(diarizer: Diarizer, latency: str, samples: Tensor) -> Tensor:
    stream = StreamingDiarizer(diarizer, latency)
    return torch.from_numpy(np.concatenate([stream.feed(samples.numpy()), stream.finish()]))


STREAMS = [
    (False, SHORT),
    (False, "chunk=9,left=2,right=0,fifo=0,cache=16,update=9"),
    (False, "chunk=3,left=0,right=1,fifo=20,cache=24,update=11,silence=1"),
    (True, "chunk=6,left=0,right=0,fifo=0,cache=18,update=6,silence=1"),
    (True, "chunk=5,left=0,right=2,fifo=7,cache=18,update=4,silence=1"),
]


@pytest.mark.parametrize(("stacked", "latency"), STREAMS)
def test_a_rehearsal_answers_as_a_stream(stacked: bool, latency: str) -> None:
    """Sessions of several lengths; not drawn, in training, they answer the same."""
    assert_answers_as_a_stream(tiny(stacked), latency)


def test_what_is_normalised_by_what_was_heard_so_far_is_rehearsed_so() -> None:
    """Training notes what it hears, and streams begin with it."""
    normalised = {"front_end.mel.normalization": "per_feature", "front_end.mel.prior_seconds": 1}
    diarizer = tiny(**normalised)
    diarizer.front_end.mel.hear(*noise(2.0))
    assert_answers_as_a_stream(diarizer, SHORT)
    assert diarizer.front_end.mel.heard[0].tolist() == [200 + 480 + 331 + 7 + 400] * 80
    message = "mel.normalization per_feature and no prior"
    with pytest.raises(ConfigError, match=message):
        Rehearsal(tiny(**{"front_end.mel.normalization": "per_feature"}), RehearsalConfig(SHORT))


def assert_answers_as_a_stream(diarizer: Diarizer, latency: str) -> None:
    signal, num_samples = noise(4.8, 3.31, 0.07, 4.0)
    rehearsal = Rehearsal(diarizer, RehearsalConfig(latency, permute=False))
    for training in (False, True):
        diarizer.train(training)
        said = rehearsal(signal, num_samples)
        diarizer.eval()
        posterior = said.logits.detach().sigmoid()
        finer = diarizer.config.upsampling
        assert posterior.shape[:2] == (4, -(-480 * finer // 8)) == said.hidden.shape[:2]
        for row, length in enumerate(num_samples.tolist()):
            expected = streamed(diarizer, latency, signal[row, :length])
            assert len(expected) > 0 and (len(expected) < 20 or expected.std() > 0.02)
            found = posterior[row, : len(expected)]
            torch.testing.assert_close(found, expected, atol=5e-5, rtol=0)


class Oracle:
    """A network that knows voices, and answers for them in the order in which it hears them.

    A frame of the signal is a voice, one-hot, or silence.
    """

    def __init__(self, num_slots: int) -> None:
        self.num_slots, self.training, self.silence = num_slots, True, torch.zeros(num_slots)
        self.hears, self.config = "audio", SimpleNamespace(upsampling=1)
        self.head, self.encoder = SimpleNamespace(width=1), None
        mel_config = SimpleNamespace(normalization="none", peak_scaling="none", hop_samples=160)

        class Mel:
            config = mel_config

            def __call__(
                self, signal: Tensor, num_samples: Tensor, so_far: bool
            ) -> tuple[Tensor, Tensor]:
                return signal, num_samples

        self.front_end = SimpleNamespace(
            mel=Mel(),
            embedding_dim=num_slots,
            grid=SimpleNamespace(hop=160),
            subsampling=lambda features, num_rows: (features, num_rows),
            encode=lambda embedding, num_frames, visible: embedding,
        )
        self.heard: list[list[int]] = []
        """Order of the first session's voices, step by step."""

    def classify_layers(
        self, embedding: Tensor, num_frames: Tensor, visible: Tensor | None
    ) -> Estimates:
        logits = torch.full((*embedding.shape[:2], self.num_slots), -20.0)
        for item, rows in enumerate(embedding):
            voices = [int(row.argmax()) if row.any() else None for row in rows]
            order = list(dict.fromkeys(v for v in voices if v is not None))
            for frame, voice in enumerate(voices):
                if voice is not None:
                    logits[item, frame, order.index(voice)] = 20.0
            if item == 0:
                self.heard.append(order)
        return Estimates(logits, [logits * 2], logits[..., :1])


def test_speakers_keep_their_slots_however_the_cache_is_permuted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two come early, one late, one does not come: who is not known yet is not moved."""
    monkeypatch.setattr("diarize.rehearsal.refuse_windowed", lambda diarizer: None)
    rng = np.random.default_rng(0)
    voices = np.concatenate([[0] * 4, [1] * 4, rng.integers(0, 2, 60), [2] * 8])
    voices = np.concatenate([voices, rng.integers(-1, 3, 100)])
    truth = torch.eye(4)[torch.from_numpy(voices)] * torch.tensor(voices >= 0)[:, None]
    signal = torch.stack([truth, truth])  # (B, T, S)
    num_samples = torch.tensor([len(truth)] * 2)
    latency = "chunk=4,left=0,right=0,fifo=0,update=4,cache=16,silence=1"
    oracle = Oracle(4)
    said = Rehearsal(oracle, RehearsalConfig(latency))(signal, num_samples)  # type: ignore[arg-type]
    assert torch.equal((said.logits > 0).float(), signal)
    assert torch.equal((said.layers[0] > 0).float(), signal)
    orders = {tuple(order) for order in oracle.heard}
    assert set(itertools.permutations(range(3))) <= orders  # all of them occur
    assert {(0, 1), (1, 0)} <= orders and not any(3 in order for order in orders)
    # Without, they stand in order of arrival.
    oracle = Oracle(4)
    said = Rehearsal(oracle, RehearsalConfig(latency, permute=False))(signal, num_samples)  # type: ignore[arg-type]
    assert torch.equal((said.logits > 0).float(), signal)
    assert all(order == [0, 1, 2][: len(order)] for order in oracle.heard)


def test_sessions_are_permuted_each_on_its_own() -> None:
    config = StreamingConfig(cache=16, silence=1)
    memory = _RehearsedCache(config, 5, 4, sessions=(64,))
    memory.permute = True
    known = torch.tensor([0.9, 0.9, 0.1, 0.9])  # the last is known, but behind one who is not
    posterior = torch.where(torch.eye(4).bool(), known, 0.05).repeat(64, 6, 1)
    scores = memory.scores_of(posterior)
    assert memory.order is not None
    assert {tuple(o) for o in memory.order.tolist()} == {(0, 1, 2, 3), (1, 0, 2, 3)}
    answers = torch.randn(64, 3, 4)
    said = answers.gather(2, memory.order[:, None].expand_as(answers))
    assert torch.equal(memory.in_own_order(said), answers)
    memory.permute = False
    plain = memory.scores_of(posterior)
    assert torch.equal(plain.gather(2, memory.order[:, None].expand_as(plain)), scores)


def test_noise_raises_scores_that_count() -> None:
    memory = _RehearsedCache(StreamingConfig(cache=16, silence=1), 5, 4, sessions=(2,))
    posterior = torch.rand(2, 30, 4)
    plain = memory.scores_of(posterior)
    memory.noise = 0.5
    noisy = memory.scores_of(posterior)
    counts = plain.isfinite()
    assert torch.equal(noisy.isfinite(), counts)
    raised = (noisy - plain)[counts]
    assert raised.min() >= -1e-6 and 0.4 < raised.max() <= 0.5 + 1e-6


@pytest.mark.parametrize("stacked", [False, True])
def test_mixed_precision_is_remembered_in_full(stacked: bool) -> None:
    diarizer = tiny(stacked).train()
    latency = "chunk=6,left=0,right=0,fifo=3,cache=18,update=6,silence=1"
    rehearsal = Rehearsal(diarizer, RehearsalConfig(latency, score_noise=0.1))
    with torch.autocast("cpu", torch.bfloat16):
        said = rehearsal(*noise(3.0, 2.0))
    assert said.logits.dtype == torch.float32
    said.logits.square().mean().backward()
    gradients = [p.grad for p in diarizer.parameters()]
    assert all(g is not None and g.isfinite().all() for g in gradients)


def test_gradients_go_through_the_cache_to_the_first_chunk() -> None:
    diarizer = tiny(stacked=True).train()
    latency = "chunk=6,left=0,right=0,fifo=0,cache=18,update=6,silence=1"
    rehearsal = Rehearsal(diarizer, RehearsalConfig(latency))
    signal, num_samples = noise(4.8, 4.0)
    signal.requires_grad_()
    logits = rehearsal(signal, num_samples).logits
    logits[:, 6 * 4 * 8 :].sum().backward()  # from the ninth chunk on, of 0.48 s
    assert signal.grad is not None and signal.grad.isfinite().all()
    first = signal.grad[0, : 6 * 1280].reshape(-1, 1280)
    assert first.abs().amax(dim=1).count_nonzero() >= 1
    assert diarizer.silence is not None and diarizer.silence.grad is not None
    assert diarizer.silence.grad.abs().max() > 0


def test_what_is_remembered_of_posteriors_has_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    diarizer = tiny().train()
    told: list[tuple[Tensor, Tensor, Tensor]] = []
    remember = _RehearsedCache.remember

    def listen(memory: Any, *given: Tensor) -> None:
        told.append(given)  # type: ignore[arg-type]
        remember(memory, *given)

    monkeypatch.setattr(_RehearsedCache, "remember", listen)
    Rehearsal(diarizer, RehearsalConfig(SHORT))(*noise(2.0))
    assert len(told) == 7
    assert all(chunk.requires_grad for _, chunk, _ in told)
    assert not any(known.requires_grad or mine.requires_grad for known, _, mine in told)


def test_a_short_batch_leaves_no_parameter_without_a_gradient() -> None:
    diarizer = tiny(stacked=True).train()
    logits = Rehearsal(diarizer, RehearsalConfig("chunk=50,left=0"))(*noise(1.0)).logits
    logits.sum().backward()
    assert all(p.grad is not None for p in diarizer.parameters())
    assert diarizer.silence is not None and not diarizer.silence.grad.any()


def naive_visible(length: int, width: int, right: int | None, tail: int, block: int) -> Tensor:
    """What frames of one session of ``length`` may attend to, padding aside."""
    start = max(length - tail, 0)
    seen = torch.zeros(width, width, dtype=torch.bool)
    for query, key in itertools.product(range(width), repeat=2):
        fine = right is None or key <= query + right
        if tail and key >= start:
            fine = fine and query >= start
            fine = fine and (key - start) // block <= (query - start) // block
        seen[query, key] = fine
    return seen


@pytest.mark.parametrize("right", [None, 0, 3])
@pytest.mark.parametrize(("tail", "block"), [(0, 1), (1, 1), (5, 2), (9, 4), (30, 5)])
def test_what_is_visible_follows_its_definition(right: int | None, tail: int, block: int) -> None:
    lengths = [12, 7, 1, 0]
    visible = _Limits(right, tail, block).visible(torch.tensor(lengths), 12)
    if right is None and not tail:
        assert visible is None
        return
    assert visible is not None
    for seen, length in zip(visible.expand(4, -1, -1), lengths, strict=True):
        expected = naive_visible(length, 12, right, tail, block)
        assert torch.equal(seen[:, :length], expected[:, :length])  # what is padded nobody sees


def test_limits_are_drawn_for_a_share_of_the_batches() -> None:
    config = RehearsalConfig(
        limited_share=0.5, limited_right=3, tail_share=0.5, longest_tail=6, largest_block=2
    )
    drawn = [_Limits.draw(config) for _ in range(400)]
    assert {limits.right for limits in drawn} == {None, 3}
    assert {limits.tail for limits in drawn} == set(range(7))
    assert {limits.block for limits in drawn if limits.tail} == {1, 2}
    for limited in (lambda x: x.right == 3, lambda x: x.tail > 0):
        assert 150 < sum(limited(x) for x in drawn) < 250
    together = sum(x.right == 3 and x.tail > 0 for x in drawn)
    assert 60 < together < 140  # one does not hang on the other
    assert _Limits.draw(RehearsalConfig()) == _Limits()


@pytest.mark.parametrize("stacked", [False, True])
def test_frames_hear_little_of_what_comes_later_where_that_is_limited(stacked: bool) -> None:
    narrow: dict[str, object] = {"encoder.num_layers": 1}
    narrow |= {"upsampling": 1} if stacked else {"front_end.num_layers": 1}
    narrow |= {} if stacked else {"front_end.conv_kernel": 1}
    diarizer = tiny(stacked, **narrow)
    signal, num_samples = noise(1.6)
    other = signal.clone()
    other[:, 15 * 1280 :] = 0.3 * torch.randn(1, 5 * 1280)
    settings: dict[str, Any] = {"latency": "chunk=20,left=0,right=0,fifo=0", "limited_right": 1}

    def apart(training: bool, **limits: float) -> Tensor:
        """By how much frames change with the last five."""
        diarizer.train(training)
        rehearsal = Rehearsal(diarizer, RehearsalConfig(**settings, **limits))
        with torch.no_grad():
            one, two = (rehearsal(each, num_samples).logits[0] for each in (signal, other))
        return (one - two).abs().amax(dim=1)

    # Two attention layers, or one, reach a frame each; convolutions before them half a frame.
    reach = 1 if stacked else 4
    assert (apart(True) > 1e-4).all()
    assert (apart(False, limited_share=1.0) > 1e-4).all()
    limited = apart(True, limited_share=1.0)
    assert (limited[: 15 - reach] < 1e-5).all() and (limited[15:] > 1e-4).all()


def test_what_is_shorter_than_a_frame_has_no_answer() -> None:
    said = Rehearsal(tiny(), RehearsalConfig(SHORT))(torch.zeros(2, 150), torch.tensor([150, 9]))
    assert said.logits.shape == (2, 0, 4) and said.hidden.shape == (2, 0, 64)


def test_a_trained_model_says_how_it_streams() -> None:
    latency = "chunk=9,left=0,right=4,fifo=30,cache=40,update=20,silence=1"
    own = Rehearsal(tiny(), RehearsalConfig(latency)).inference
    config = load_config(InferenceConfig, values=own)
    assert parse_latency(config.latency, config.latencies) == parse_latency(latency)
    low = parse_latency("1.04s", config.latencies)
    assert low == StreamingConfig(6, 0, 7, 188, 40, 144, 1)  # its wait, but our cache


def test_what_cannot_be_rehearsed() -> None:
    with pytest.raises(ConfigError, match=r"latency is offline, but a stream has no end to wait"):
        RehearsalConfig("offline")
    with pytest.raises(ConfigError, match=r"latency is '9s', but the model has offline, 30.4s"):
        RehearsalConfig("9s")
    with pytest.raises(ConfigError, match="tail_share is 1.5, but a share is from 0 to 1"):
        RehearsalConfig(tail_share=1.5)
    with pytest.raises(ConfigError, match="largest_block is 0, but it is at least 1"):
        RehearsalConfig(largest_block=0)
    with pytest.raises(ConfigError, match=r"cache is 15, but 4 speakers with 3 rows .* need 16"):
        Rehearsal(tiny(), RehearsalConfig("cache=15"))
    whole = tiny(**{"front_end.mel.normalization": "per_feature"})
    with pytest.raises(ConfigError, match="mel.normalization per_feature and .* but a stream"):
        Rehearsal(whole, RehearsalConfig(SHORT))
    points = tiny(**{"encoder._target_": "diarize.encoder.set_transformer.SetTransformer"})
    Rehearsal(points, RehearsalConfig(SHORT))
    message = "limited_share is 0.5 and tail_share 0, but frames of a SetTransformer do not attend"
    with pytest.raises(ConfigError, match=message):
        Rehearsal(points, RehearsalConfig(SHORT, limited_share=0.5))
