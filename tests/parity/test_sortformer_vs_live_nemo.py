"""Sortformer against NeMo itself: weights, audio and settings are drawn anew in every run.

Skipped where NeMo is not installed; ``docs/parity.md`` says how to install it. A run prints its
seed where it fails: ``DIARIZE_PARITY_SEED`` repeats it. ``DIARIZE_PARITY_SIZE=full`` takes the
published sizes. ``pytest -rP`` shows the differences.

A speaker cache keeps whichever frames score best. Where two score alike to within rounding, both
implementations are right and their streams part: such a close call is told from NeMo's side, and
the stream compared until then, and another drawn.
"""

import math
import os
import secrets
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from diarize.checkpoint import load_checkpoint
from diarize.data import Batch
from diarize.latency import StreamingConfig, format_latency
from diarize.model import Diarizer
from diarize.module import DiarizationModule, TrainingConfig
from diarize.nemo import named
from diarize.rehearsal import RehearsalConfig
from diarize.streaming import StreamingDiarizer

pytestmark = [
    pytest.mark.parity,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore"),  # theirs
]

SEED = int(os.environ.get("DIARIZE_PARITY_SEED") or secrets.randbelow(2**31))
SIZE = os.environ.get("DIARIZE_PARITY_SIZE") or "tiny"
SAMPLE_RATE = 16000
DRAWS = range(6 if SIZE == "tiny" else 2)

ROUNDING = {"tiny": 1e-5, "full": 5e-5}[SIZE]
"""How far posteriors of equal weights are apart, at most; what is nearer to a threshold, or to
another score, is a close call."""

SIZES = {
    "tiny": {"width": 64, "layers": 2, "channels": 16, "heads": 4, "after": (2, 32, 64)},
    "full": {"width": 512, "layers": 18, "channels": 256, "heads": 8, "after": (18, 192, 768)},
}
"""FastConformer's, and number of layers, width and inner width of the Transformer after it."""

PARAMETERS = {1: 123_219_976, 2: 117_693_960}
"""Of the published models, by version."""


def draw(*key: int) -> np.random.Generator:
    """What decides a test's weights, audio and settings; says how to repeat it."""
    print(f"DIARIZE_PARITY_SEED={SEED} DIARIZE_PARITY_SIZE={SIZE}")
    return np.random.default_rng([SEED, *key])


def some_audio(generator: np.random.Generator, shortest: float, longest: float) -> Tensor:
    """(1, sample): noise and four harmonic tones of changing level; lengths in seconds."""
    num_samples, held = int(generator.uniform(shortest, longest) * SAMPLE_RATE), 6400
    num_levels = num_samples // held + 1
    time = np.arange(num_samples) / SAMPLE_RATE

    def lasting(levels: np.ndarray) -> np.ndarray:
        return np.repeat(levels, held)[:num_samples]

    noise = lasting(10 ** generator.uniform(-3, -1, num_levels))
    audio = noise * generator.normal(size=num_samples)
    for pitch in (110.0, 185.0, 260.0, 340.0):
        tone = sum(np.sin(2 * np.pi * n * pitch * time) / n for n in range(1, 7))
        audio += lasting(generator.choice([0, 0, 0.03, 0.1, 0.3], size=num_levels)) * tone
    return torch.tensor(0.9 * audio / np.abs(audio).max(), dtype=torch.float32)[None]


def same(what: str, ours: Any, theirs: Any, atol: float) -> None:
    ours, theirs = torch.as_tensor(ours), torch.as_tensor(theirs)
    if ours.shape == theirs.shape and ours.numel():
        print(f"{what}: at most {(ours - theirs).abs().max():.1e} apart, {atol:.0e} allowed")
    torch.testing.assert_close(ours, theirs, atol=atol, rtol=0, msg=lambda m: f"{what}: {m}")


@torch.no_grad()
def draw_weights(model: nn.Module, generator: np.random.Generator) -> None:
    """Every tensor its own, so that none can stand for another; residual branches are weak, so
    that frames stay different through many layers."""
    source = torch.Generator().manual_seed(int(generator.integers(2**31)))
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        noise = torch.randn(tensor.shape, generator=source)
        stem, _, last = name.rpartition(".")
        if last == "running_mean":
            tensor.copy_(0.1 * noise)
        elif last == "running_var":
            tensor.copy_(1 + 0.2 * noise.tanh())
        elif not isinstance(tensor, nn.Parameter):
            continue
        elif tensor.dim() > 1:
            gain = 0.25 if stem.endswith(BRANCH_ENDS) else 1.3
            tensor.copy_(gain * noise / math.sqrt(tensor[0].numel()))
        else:
            tensor.copy_(0.1 * noise + ("norm" in stem and last == "weight"))


BRANCH_ENDS = (
    ("linear2", "linear_out", "pointwise_conv2", "out_projection", "dense_out")  # NeMo's
    + ("o_proj", "fc2")  # transformers'
)


@torch.no_grad()
def spread(linear: nn.Linear, run: Callable[[], Any], deviation: float, mean: float = 0.0) -> None:
    """Give what a linear map says of the audio that ``run`` hears this mean and deviation."""
    said: list[Tensor] = []
    hook = linear.register_forward_hook(lambda *call: said.append(call[-1].flatten(0, -2)))
    run()
    hook.remove()
    factor = deviation / torch.cat(said).std(dim=0)
    linear.weight.mul_(factor[:, None])
    if linear.bias is not None:
        linear.bias.sub_(torch.cat(said).mean(dim=0)).mul_(factor).add_(mean)


@torch.no_grad()
def speak(head: nn.Linear, run: Callable[[], Any]) -> None:
    """Let slots speak alone, together and not at all: half of what moves them is common."""
    head.weight.add_(head.weight.mean(dim=0) * math.sqrt(len(head.weight)))
    spread(head, run, deviation=2.5, mean=-1.5)


def nemo_config(version: int, size: str = SIZE) -> dict[str, Any]:
    """NeMo's settings of Sortformer v1, offline, or v2, streaming."""
    sizes, mels = SIZES[size], {1: 80, 2: 128}[version]
    layers, width, inner = sizes["after"]
    modules = "nemo.collections.asr.modules."
    return {
        "sample_rate": SAMPLE_RATE,
        "max_num_of_spks": 4,
        "streaming_mode": version == 2,
        "model_defaults": {"fc_d_model": sizes["width"], "tf_d_model": width},
        "preprocessor": {
            "_target_": modules + "AudioToMelSpectrogramPreprocessor",
            "sample_rate": SAMPLE_RATE,
            "normalize": {1: "per_feature", 2: "NA"}[version],
            "window_size": 0.025,
            "window_stride": 0.01,
            "features": mels,
            "n_fft": 512,
        },
        "encoder": {
            "_target_": modules + "ConformerEncoder",
            "feat_in": mels,
            "n_layers": sizes["layers"] - (size == "full" and version == 2),
            "d_model": sizes["width"],
            "n_heads": sizes["heads"],
            "subsampling": "dw_striding",
            "subsampling_factor": 8,
            "subsampling_conv_channels": sizes["channels"],
            "conv_kernel_size": 9,
        },
        "transformer_encoder": {
            "_target_": modules + "transformer.transformer_encoders.TransformerEncoder",
            "num_layers": layers,
            "hidden_size": width,
            "inner_size": inner,
            "num_attention_heads": sizes["heads"],
            "hidden_act": "relu",
            "pre_ln": False,
        },
        "sortformer_modules": {
            "_target_": modules + "sortformer_modules.SortformerModules",
            "num_spks": 4,
            "fc_d_model": sizes["width"],
            "tf_d_model": width,
        },
        "loss": {"_target_": "nemo.collections.asr.losses.bce_loss.BCELoss"},
    }


Build = Callable[[dict[str, Any], np.random.Generator, Path], Any]
Models = Callable[[int], tuple[Any, Path]]


@pytest.fixture(scope="module")
def build() -> Build:
    """A function: settings, what decides the weights, where to save -> NeMo's model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sortformer = pytest.importorskip("nemo.collections.asr.models").SortformerEncLabelModel
    from omegaconf import OmegaConf

    def build_one(config: dict[str, Any], generator: np.random.Generator, path: Path) -> Any:
        model = sortformer(OmegaConf.create(config)).eval()
        draw_weights(model, generator)
        audio = some_audio(generator, 20, 20)
        num_samples = torch.tensor([audio.shape[1]])

        def run() -> None:
            model(audio_signal=audio, audio_signal_length=num_samples)

        for linear in (model.encoder.pre_encode.out, model.sortformer_modules.encoder_proj):
            spread(linear, run, deviation=1.0)
        speak(model.sortformer_modules.single_hidden_to_spks, run)
        model.save_to(str(path))
        return model

    return build_one


@pytest.fixture(scope="module")
def models(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Models:
    """A function: version -> NeMo's model with weights of this run, and the archive it saved."""
    made: dict[int, tuple[Any, Path]] = {}

    def make(version: int) -> tuple[Any, Path]:
        if version not in made:
            path = tmp_path_factory.mktemp("nemo") / f"v{version}.nemo"
            model = build(nemo_config(version), draw(version), path)
            if SIZE == "full":
                assert sum(p.numel() for p in model.parameters()) == PARAMETERS[version]
            made[version] = model, path
        return made[version]

    return make


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("number", DRAWS)
@torch.no_grad()
def test_every_stage_offline(
    version: int,
    number: int,
    models: Models,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs, path = models(version)
    ours = load_checkpoint(path)
    if version == 2:  # as NeMo runs it with streaming_mode switched off
        monkeypatch.setattr(theirs, "streaming_mode", False)
        ours.front_end.mel.config.peak_scaling = "item"
    generator = draw(version, 1, number)
    # Version 1 divides by each bin's deviation, which of two frames is now and then next to none.
    shortest = {1: 0.1, 2: 0.02}[version]
    audio = some_audio(generator, *[(shortest, 0.2), (0.2, 5), (5, 60)][number % 3])
    num_samples = torch.tensor([audio.shape[1]])

    mel, lengths = theirs.process_signal(audio, num_samples)
    mel = mel[:, :, : lengths.max()]
    encoded, _ = theirs.encoder(audio_signal=mel, length=lengths)
    posterior = theirs(audio_signal=audio, audio_signal_length=num_samples)
    print(f"{audio.shape[1]} samples, posteriors deviate by {posterior.std():.2f}")

    features, num_frames = ours.front_end.mel(audio, num_samples)
    assert num_frames.tolist() == lengths.tolist()
    same("mel", features, mel.mT, 1e-4)
    embedding = ours.front_end.encode(*ours.front_end.subsampling(mel.mT, lengths))
    same("encoder, of the same mel", embedding, encoded.mT, 2e-5)
    same("encoder", ours.embed(audio, num_samples)[0], encoded.mT, 1e-4)
    same("posterior", ours.posterior(audio, num_samples)[0], posterior, ROUNDING * 2)


@pytest.mark.parametrize("version", [1, 2])
@torch.no_grad()
def test_padded_batches_offline(
    version: int, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, path = models(version)
    ours = load_checkpoint(path)
    if version == 2:
        monkeypatch.setattr(theirs, "streaming_mode", False)
        ours.front_end.mel.config.peak_scaling = "item"
    generator = draw(version, 2)
    # NeMo divides by the largest sample of all, we by each item's own: here all have the same.
    items = [audio[0] / audio.max() for audio in (some_audio(generator, 0.1, 12) for _ in range(4))]
    num_samples = torch.tensor([len(item) for item in items])
    audio = nn.utils.rnn.pad_sequence(items, batch_first=True)
    posterior = theirs(audio_signal=audio, audio_signal_length=num_samples)
    same("posterior", ours.posterior(audio, num_samples)[0], posterior, ROUNDING * 2)


@pytest.mark.parametrize("number", range(6))
@torch.no_grad()
def test_other_builds(number: int, build: Build, tmp_path: Path) -> None:
    """Small ones, whatever the size of the others: settings that no published model has."""
    generator = draw(3, number)
    streaming = bool(number % 2)
    config = nemo_config(1 + streaming, "tiny")

    def pick(*values: Any) -> Any:
        return values[generator.integers(len(values))]

    mels, num_slots = pick(40, 64, 80, 128), pick(2, 3, 5)
    context = pick(-1, 3, 20)
    config["max_num_of_spks"] = config["sortformer_modules"]["num_spks"] = num_slots
    config["preprocessor"] |= {
        "features": mels,
        "window_size": pick(0.02, 0.025, 0.032),
        "preemph": pick(0.97, 0.9, 0.0),
    }
    config["encoder"] |= {
        "feat_in": mels,
        "n_heads": pick(1, 2, 8),
        "att_context_size": [context, context],
        "xscaling": pick(True, False),
        "conv_kernel_size": pick(5, 9, 31),
        "conv_norm_type": pick("batch_norm", "layer_norm"),
        "ff_expansion_factor": pick(2, 4),
    }
    config["transformer_encoder"] |= {
        "num_attention_heads": pick(1, 2, 8),
        "hidden_act": pick("relu", "gelu"),
    }
    print({name: config[name] for name in ("preprocessor", "encoder", "transformer_encoder")})
    theirs = build(config, generator, tmp_path / "other.nemo")
    ours = load_checkpoint(tmp_path / "other.nemo")
    assert ours.num_slots == num_slots
    audio = some_audio(generator, 1, 20)
    num_samples = torch.tensor([audio.shape[1]])
    if streaming:
        settings = some_settings(generator, num_slots)
        heard = hear(theirs, audio, settings)
        posterior, _ = stream(ours, format_latency(settings), audio, generator)
        same("stream", posterior[: heard.sure], heard.posterior[: heard.sure], 1e-4)
        theirs.streaming_mode = False
        ours.front_end.mel.config.peak_scaling = "item"
    expected = theirs(audio_signal=audio, audio_signal_length=num_samples)
    same("posterior", ours.posterior(audio, num_samples)[0], expected, ROUNDING * 2)


def some_settings(generator: np.random.Generator, num_slots: int = 4) -> StreamingConfig:
    """What can be run, useful or not: now and then there is no queue, context or silence."""

    def pick(least: int, most: int) -> int:
        return int(generator.integers(least, most + 1))

    chunk, fifo, silence = pick(1, 40), pick(0, 3) and pick(1, 80), pick(0, 3)
    return StreamingConfig(
        chunk=chunk,
        left=pick(0, 4),
        right=pick(0, min(12, chunk - 1)),
        fifo=fifo,
        cache=pick((1 + silence) * num_slots, 120),
        update=pick(1, fifo + chunk + 5),
        silence=silence,
    )


NAMES = {
    "chunk": "chunk_len",
    "left": "chunk_left_context",
    "right": "chunk_right_context",
    "fifo": "fifo_len",
    "cache": "spkcache_len",
    "update": "spkcache_update_period",
    "silence": "spkcache_sil_frames_per_spk",
}


@dataclass
class Heard:
    """What NeMo's stream came to.

    Attributes:
        posterior: (frame, slot).
        sure: frames until the first close call.
        state: NeMo's, at the end; None if nothing was heard.
        compressed: how many times the cache was.
    """

    posterior: Tensor
    sure: int
    state: Any
    compressed: int


@torch.no_grad()
def hear(theirs: Any, audio: Tensor, config: StreamingConfig) -> Heard:
    """Run NeMo's stream, and look over its shoulder."""
    modules = theirs.sortformer_modules
    update, compress = modules.streaming_update, modules._compress_spkcache
    silence = modules._get_silence_profile
    heard = Heard(torch.zeros(0, modules.n_spk), 0, None, 0)
    close = False

    def watched_update(*args: Any, **kwargs: Any) -> Any:
        was_close = close
        heard.state, posterior = update(*args, **kwargs)
        heard.sure += 0 if was_close else posterior.shape[1]
        return heard.state, posterior

    def watched_silence(mean: Tensor, count: Tensor, embedding: Tensor, posterior: Tensor) -> Any:
        nonlocal close
        margin = (posterior.sum(dim=2) - modules.sil_threshold).abs().min()
        close |= bool(margin < modules.n_spk * ROUNDING)
        return silence(mean, count, embedding, posterior)

    def watched_compress(emb_seq: Tensor, preds: Tensor, mean_sil_emb: Tensor, **rest: Any) -> Any:
        nonlocal close
        rows = torch.arange(1.0, emb_seq.shape[1] + 1)[None, :, None]
        # The same row may stand there twice, and its copies stay alike.
        shifts = [ROUNDING * torch.sin(1e7 * n * preds) for n in range(5)]
        kept = [compress(rows, preds + s, torch.zeros(1, 1), **rest)[0] for s in shifts]
        close |= any(not torch.equal(k, kept[0]) for k in kept)
        heard.compressed += 1
        return compress(emb_seq=emb_seq, preds=preds, mean_sil_emb=mean_sil_emb, **rest)

    with pytest.MonkeyPatch.context() as patch:
        for ours, name in NAMES.items():
            patch.setattr(modules, name, getattr(config, ours))
        modules._check_streaming_parameters()
        patch.setattr(modules, "streaming_update", watched_update)
        patch.setattr(modules, "_get_silence_profile", watched_silence)
        patch.setattr(modules, "_compress_spkcache", watched_compress)
        num_samples = torch.tensor([audio.shape[1]])
        heard.posterior = theirs(audio_signal=audio, audio_signal_length=num_samples)[0]
    return heard


def stream(
    ours: Diarizer, latency: str, audio: Tensor, generator: np.random.Generator
) -> tuple[Tensor, StreamingDiarizer]:
    """Posteriors of a stream that is fed in pieces of any length, and the stream at its end."""
    streaming = StreamingDiarizer(ours, latency)
    cuts = np.sort(generator.integers(0, audio.shape[1] + 1, size=generator.integers(1, 12)))
    pieces = [streaming.feed(piece) for piece in np.split(audio[0].numpy(), cuts)]
    return torch.as_tensor(np.concatenate([*pieces, streaming.finish()])), streaming


@pytest.mark.parametrize("number", DRAWS)
def test_streams(number: int, models: Models) -> None:
    theirs, path = models(2)
    ours = load_checkpoint(path)
    generator = draw(2, 3, number)
    config = some_settings(generator)
    for _ in range(8):
        audio = some_audio(generator, *[(1, 10), (10, 40), (40, 90)][number % 3])
        heard = hear(theirs, audio, config)
        posterior, streaming = stream(ours, format_latency(config), audio, generator)
        memory = streaming._memory
        print(
            f"{format_latency(config)}: {audio.shape[1]} samples, cache compressed "
            f"{heard.compressed} times, {memory.num_silence} silent frames, "
            f"{heard.sure} of {len(posterior)} frames before a close call"
        )
        assert posterior.shape == heard.posterior.shape
        same("posterior", posterior[: heard.sure], heard.posterior[: heard.sure], 1e-4)
        if heard.sure == len(posterior):
            break
    else:
        pytest.fail("eight streams had a close call each, so that none was compared to its end")
    same("cache", memory.cache, heard.state.spkcache[0], 1e-4)
    same("queue", memory.fifo, heard.state.fifo[0], 1e-4)
    same("silence", memory.silence, heard.state.mean_sil_emb[0], 1e-4)
    assert memory.num_silence == heard.state.n_sil_frames[0]
    assert (memory.cache_posterior is None) == (heard.state.spkcache_preds is None)
    if memory.cache_posterior is not None:
        same("posterior of the cache", memory.cache_posterior, heard.state.spkcache_preds[0], 1e-4)


def test_the_archive_says_how_it_streams(models: Models) -> None:
    theirs, path = models(2)
    ours = load_checkpoint(path)
    generator = draw(2, 4)
    audio = some_audio(generator, 30, 60)
    modules = theirs.sortformer_modules
    stored = replace(
        StreamingConfig(), **{ours: getattr(modules, name) for ours, name in NAMES.items()}
    )
    heard = hear(theirs, audio, stored)
    posterior, _ = stream(ours, ours.inference["latency"], audio, generator)
    same("posterior", posterior[: heard.sure], heard.posterior[: heard.sure], 1e-4)


# ---- training

CERTAIN = {
    "encoder": ("dropout", "dropout_pre_encoder", "dropout_emb", "dropout_att"),
    "transformer_encoder": ("attn_score_dropout", "attn_layer_dropout", "ffn_dropout"),
    "sortformer_modules": ("dropout_rate",),
    "preprocessor": ("dither",),
}
"""What draws at random in training, and is left out."""

TRAINED = StreamingConfig(chunk=9, left=1, right=2, fifo=4, cache=24, update=11, silence=3)


@torch.no_grad()
def talk_alone(theirs: Any, audio: Tensor) -> None:
    """Let one slot after another speak, where `speak` lets them speak at once: who never speaks
    alone is not permuted."""
    head = theirs.sortformer_modules.single_hidden_to_spks
    head.weight.sub_(head.weight.mean(dim=0))

    def run() -> None:
        theirs(audio_signal=audio, audio_signal_length=torch.tensor([audio.shape[1]]))

    spread(head, run, deviation=3.0, mean=-1.0)


@pytest.mark.parametrize(("version", "limited"), [(1, False), (2, False), (2, True)])
def test_a_training_step(
    version: int, limited: bool, build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses and gradients of equal weights, audio and targets; speakers permuted alike.

    The draw is always the same: gradients of a stream whose caches part by rounding are others.
    """
    generator = np.random.default_rng(version)
    config = nemo_config(version, "tiny")
    for section, names in CERTAIN.items():
        config[section] |= dict.fromkeys(names, 0.0)
    if version == 2:
        config["sortformer_modules"] |= {n: getattr(TRAINED, o) for o, n in NAMES.items()}
        config["sortformer_modules"] |= {"causal_attn_rate": float(limited), "causal_attn_rc": 3}
    theirs = build(config, generator, tmp_path / "model.nemo").train()
    talk_alone(theirs, some_audio(generator, 20, 20))
    theirs.save_to(str(tmp_path / "model.nemo"))
    settings = TrainingConfig()
    if version == 2:
        share = float(limited)
        settings.rehearsal = RehearsalConfig(
            format_latency(TRAINED), limited_share=share, limited_right=3
        )
    module = DiarizationModule(settings, diarizer=load_checkpoint(tmp_path / "model.nemo")).train()

    items = [some_audio(generator, *span)[0] for span in ((9.0, 9.5), (6, 7), (3, 4))]
    items = [item / item.max() for item in items]
    num_samples = torch.tensor([len(item) for item in items])
    audio = nn.utils.rnn.pad_sequence(items, batch_first=True)
    num_frames = -(-(num_samples // 160) // 8)
    talking = torch.from_numpy(generator.random((3, 13, 4))) < 0.4
    activity = talking.repeat_interleave(10, dim=1)[:, : int(num_frames.max())].float()
    activity[0, :, 2] = 0.0
    activity *= (torch.arange(activity.shape[1]) < num_frames[:, None])[:, :, None]

    # All known speakers move on by one place, the first to the end.
    permute, known = theirs.sortformer_modules._permute_speakers, []

    def watched(scores: Tensor, max_perm_index: Tensor) -> Any:
        known.extend(max_perm_index.tolist())
        return permute(scores, max_perm_index)

    monkeypatch.setattr(theirs.sortformer_modules, "_permute_speakers", watched)
    monkeypatch.setattr(torch, "randperm", lambda n: (torch.arange(n) + 1) % n)
    keys = torch.tensor([0.9, 0.1, 0.2, 0.3])

    def moved_on(*shape: Any, **_: Any) -> Tensor:
        """By what our speakers are sorted; of two numbers, whether attention is limited."""
        return keys[:2] if shape == (2,) else keys.expand(*shape)

    monkeypatch.setattr(torch, "rand", moved_on)
    posterior = theirs(audio_signal=audio, audio_signal_length=num_samples)
    speakers = pytest.importorskip("nemo.collections.asr.parts.utils.asr_multispeaker_utils")
    orders = theirs.speaker_permutations
    expected = {}
    for name, sort in (
        ("sort_loss", speakers.get_ats_targets),
        ("permutation_invariant_loss", speakers.get_pil_targets),
    ):
        target = sort(activity.clone(), posterior, speaker_permutations=orders)
        expected[name] = theirs.loss(probs=posterior, labels=target, target_lens=num_frames)
    total = (expected["sort_loss"] + expected["permutation_invariant_loss"]) / 2
    total.backward()
    assert version == 1 or max(known) > 2  # places are exchanged, not only by twos

    batch = Batch(
        signal=audio,
        num_samples=num_samples,
        activity=activity,
        num_frames=num_frames,
        voice=torch.full(activity.shape[:2], -1),
        turns=[[]] * 3,
        regions=[None] * 3,
        num_speakers=0,
        dropped_speakers=0,
    )
    loss, logits, parts = module._step(batch)
    loss.backward()
    assert logits is not None and posterior.std() > 0.1
    valid = torch.arange(activity.shape[1]) < num_frames[:, None]
    same("posterior", logits.sigmoid()[valid], posterior[valid], 1e-4)
    for name, value in expected.items():
        same(name, parts[name], value, 1e-5)
    same("loss", loss, total, 1e-5)
    ours = dict(module.diarizer.named_parameters())
    apart = {}
    for name, parameter in theirs.named_parameters():
        if parameter.grad is None:
            assert name.startswith("sortformer_modules.hidden_to_spks")
            continue
        own, gradient = named(name, parameter.grad)
        found = ours.pop(own).grad
        assert found is not None
        apart[own] = float((found - gradient).norm() / gradient.norm().clamp(min=1e-4))
    print({name: f"{value:.0e}" for name, value in sorted(apart.items(), key=lambda p: -p[1])[:5]})
    assert not ours and len(apart) > 100 and max(apart.values()) < 2e-3
