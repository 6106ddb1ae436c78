"""Front ends that learned without labels: torchaudio's networks, on the clock of this package."""

from pathlib import Path

import pytest
import torch
import torchaudio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from diarize.checkpoint import load_checkpoint, save_checkpoint
from diarize.config import load_config
from diarize.errors import CheckpointError, ConfigError
from diarize.frontend.ssl import PUBLISHED, Ssl, SslConfig
from diarize.model import Diarizer, DiarizerConfig
from diarize.streaming import StreamingDiarizer

KINDS = ("wavlm_base", "wavlm_large", "wav2vec2_base", "wav2vec2_large_lv60k")
"""One of each: gated positions or none, normalised over time or by frame, before or after."""
TINY = {"width": 16, "num_layers": 2, "num_heads": 2, "inner": 24, "channels": 6}


def tiny(model: str = "wavlm_base", **changes: object) -> Ssl:
    """Two narrow layers, ready to infer; no layer counts as much as another."""
    front_end = Ssl(SslConfig(model, **(TINY | changes))).eval()
    with torch.no_grad():
        front_end.layer_weights.copy_(torch.randn(len(front_end.layer_weights)))
        for parameter in front_end.model.feature_extractor.parameters():
            parameter.mul_(3.0)  # else what convolutions say is mostly their bias
    return front_end


def noise(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of noise, padded with noise, too: what is padding must not matter."""
    return torch.randn(len(lengths), max(lengths)) * 0.1, torch.tensor(lengths)


# ---- the published networks


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes_are_those_of_torchaudio(name: str) -> None:
    with torch.device("meta"):
        ours = Ssl(SslConfig(name)).model.state_dict()
        theirs = getattr(torchaudio.models, name)().state_dict()
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("name", PUBLISHED)
def test_recordings_are_scaled_for_those_that_learned_so(name: str) -> None:
    bundle = getattr(torchaudio.pipelines, name.upper())
    published = PUBLISHED[name]
    assert published.scaled == bundle._normalize_waveform
    assert published.pre_norm == bundle._params["encoder_layer_norm_first"]


@pytest.mark.parametrize("kind", KINDS)
def test_each_layer_says_what_it_says_in_torchaudio(kind: str) -> None:
    front_end = tiny(kind)
    waveform, num_samples = noise(9000)
    heard = waveform
    if PUBLISHED[kind].scaled:
        heard = torch.nn.functional.layer_norm(waveform, waveform.shape)
    heard = torch.nn.functional.pad(heard, (40, 40))
    with torch.no_grad():
        layers, _ = front_end.model.extract_features(heard)
        last, _ = front_end.model(heard)  # with the norm that large models end in
        assert len(layers) == 2 and not torch.allclose(*layers)
        for number, said in ((1, layers[0]), (2, last)):
            front_end.layer_weights.copy_(torch.tensor([0.0, 0.0, 0.0]))
            front_end.layer_weights[number] = 100.0  # the others count 1e-43
            embedding, _ = front_end(waveform, num_samples)
            wanted = torch.nn.functional.layer_norm(said, (16,))
            torch.testing.assert_close(embedding, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_weighed_by_shares_that_are_learned(kind: str) -> None:
    front_end = Ssl(SslConfig(kind, **TINY))
    waveform, num_samples = noise(6400)
    front_end(waveform, num_samples)[0].square().mul(torch.rand(20, 16)).sum().backward()
    assert front_end.layer_weights.grad is not None and front_end.layer_weights.grad.any()
    assert front_end.layer_weights.softmax(0).tolist() == pytest.approx([1 / 3] * 3)
    assert all(p.grad is not None for p in front_end.parameters())


# ---- clock and padding


@pytest.mark.parametrize("stacked", [1, 4])
def test_frames_are_steps_of_20_ms_or_several_of_them(stacked: int) -> None:
    front_end = tiny(stacked=stacked)
    embedding, num_frames = front_end(*noise(16000))
    assert front_end.grid.frame_shift == pytest.approx(0.02 * stacked)
    assert embedding.shape == (1, -(-50 // stacked), 16 * stacked)
    assert num_frames.tolist() == [embedding.shape[1]] == [front_end.grid.num_frames(16000)]
    assert front_end.embedding_dim == 16 * stacked


def test_a_frame_hears_its_own_20_ms_and_two_and_a_half_on_either_side() -> None:
    #  samples  ... 1600      1920 ...
    #  frame 5       |---------|
    #  hears      |--------------|        40 more on either side
    front_end = tiny("wav2vec2_large_lv60k")
    front_end._scaled = False  # over the whole recording
    waveform = torch.randn(1, 6400, requires_grad=True)
    front_end.convolve(waveform, torch.tensor([6400]))[0, 5].square().sum().backward()
    (heard,) = waveform.grad[0].nonzero(as_tuple=True)
    assert (int(heard.min()), int(heard.max())) == (1560, 1959)


@settings(deadline=None, max_examples=12)
@given(
    st.lists(st.integers(0, 4000), min_size=2, max_size=4),
    st.sampled_from(KINDS),
    st.sampled_from([1, 3]),
)
@example([320, 321], "wavlm_large", 1)  # what is scaled is silent where it is padded
def test_batch_of_one_equals_batch_of_many(lengths: list[int], kind: str, stacked: int) -> None:
    front_end = tiny(kind, stacked=stacked).double()  # norms of few channels enlarge rounding
    waveform, num_samples = noise(*lengths)
    waveform = waveform.double()
    with torch.no_grad():
        many, num_frames = front_end(waveform, num_samples)
        assert many.shape[1] == front_end.grid.num_frames(max(lengths))
        assert many.isfinite().all()
        for row, length in enumerate(lengths):
            one, frames = front_end(waveform[row : row + 1, :length], num_samples[row : row + 1])
            assert frames.item() == num_frames[row] == front_end.grid.num_frames(length)
            torch.testing.assert_close(many[row, :frames], one[0], atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_and_none_cross_sessions(kind: str) -> None:
    front_end = tiny(kind).train()
    waveform, num_samples = noise(4000, 100, 2500)
    waveform.requires_grad_()
    embedding, num_frames = front_end(waveform, num_samples)
    embedding[2, : num_frames[2]].square().mul(torch.rand(16)).sum().backward()
    assert waveform.grad is not None and waveform.grad.isfinite().all()
    assert waveform.grad[2, :2500].any()
    assert not waveform.grad[:2].any() and not waveform.grad[2, 2500:].any()


@pytest.mark.parametrize("kind", KINDS)
def test_mixed_precision_says_about_the_same(kind: str) -> None:
    front_end = tiny(kind)
    waveform, num_samples = noise(4000, 2500)
    with torch.no_grad():
        exact, num_frames = front_end(waveform, num_samples)
        with torch.autocast("cpu", torch.bfloat16):
            rough, _ = front_end(waveform, num_samples)
    difference = (exact - rough.float())[1, : num_frames[1]]
    assert difference.abs().mean() < 0.1 * exact.abs().mean()


# ---- weights from a file


def published_file(folder: Path, kind: str = "wavlm_base", suffix: str = ".pth") -> Path:
    """What torchaudio would have written of a tiny network."""
    tensors = {name: t.clone() for name, t in tiny(kind).model.state_dict().items()}
    path = folder / f"tiny{suffix}"
    if suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".safetensors"])
def test_weights_are_read_from_a_file(tmp_path: Path, suffix: str) -> None:
    path = published_file(tmp_path, suffix=suffix)
    torch.manual_seed(1)
    read = Ssl(SslConfig(weights=str(path), **TINY))
    torch.manual_seed(0)
    for name, tensor in tiny().model.state_dict().items():
        assert torch.equal(read.model.state_dict()[name], tensor), name
    assert read.config.weights is None


def test_names_before_parametrizations_and_letters_of_recognisers_are_read(tmp_path: Path) -> None:
    path = published_file(tmp_path)
    tensors = torch.load(path, weights_only=True)
    conv = "encoder.transformer.pos_conv_embed.conv"
    for old, new in (("weight_g", "original0"), ("weight_v", "original1")):
        tensors[f"{conv}.{old}"] = tensors.pop(f"{conv}.parametrizations.weight.{new}")
    tensors["aux.weight"], tensors["aux.bias"] = torch.zeros(29, 16), torch.zeros(29)
    torch.save(tensors, path)
    read = Ssl(SslConfig(weights=str(path), **TINY)).model.state_dict()
    wanted = tensors[f"{conv}.weight_v"]
    assert torch.equal(read[f"{conv}.parametrizations.weight.original1"], wanted)


def test_fewer_layers_are_the_first_of_the_file(tmp_path: Path) -> None:
    path = published_file(tmp_path)
    short = Ssl(SslConfig(weights=str(path), **(TINY | {"num_layers": 1})))
    tensors = torch.load(path, weights_only=True)
    name = "encoder.transformer.layers.0.feed_forward.output_dense.weight"
    assert torch.equal(short.model.state_dict()[name], tensors[name])
    assert len(short.model.encoder.transformer.layers) == 1


def test_a_trained_model_needs_the_file_no_more(tmp_path: Path) -> None:
    path = published_file(tmp_path)
    encoder = {"_target_": "diarize.encoder.transformer.Transformer", "width": 16, "inner": 16}
    node = {"_target_": "diarize.frontend.ssl.Ssl", "weights": str(path), "stacked": 4, **TINY}
    values = {"front_end": node, "encoder": encoder | {"num_layers": 1, "num_heads": 2}}
    diarizer = Diarizer(load_config(DiarizerConfig, values=values)).eval()
    assert diarizer.config.front_end["weights"] is None
    save_checkpoint(diarizer, tmp_path / "model")
    path.unlink()
    again = load_checkpoint(tmp_path / "model")
    waveform, num_samples = noise(8000, 3000)
    (logits, frames), (wanted, _) = again(waveform, num_samples), diarizer(waveform, num_samples)
    assert frames.tolist() == [7, 3] and logits.shape == (2, 7, 4)
    for row, count in enumerate(frames.tolist()):
        assert torch.equal(logits[row, :count], wanted[row, :count])
    with pytest.raises(
        ConfigError, match=r"model hears through Ssl, but a stream goes through log"
    ):
        StreamingDiarizer(again)


def test_on_the_meta_device_no_file_is_read() -> None:
    with torch.device("meta"):
        assert Ssl(SslConfig(weights="gone.pth")).layer_weights.is_meta


class Code:
    """What an honest file never holds."""


def test_weights_that_cannot_be_read_or_do_not_fit(tmp_path: Path) -> None:
    def refused(path: Path, message: str, **changes: object) -> None:
        with pytest.raises(CheckpointError, match=message):
            Ssl(SslConfig(weights=str(path), **(TINY | changes)))

    refused(tmp_path / "gone.pth", r"gone\.pth: is no file, but front_end\.weights names one\. Che")
    refused(tmp_path / "gone.safetensors", r"gone\.safetensors: is no file, but")
    refused(
        tmp_path / "a.ckpt", r"a\.ckpt: ends in '\.ckpt', but weights are read from \.pt, \.pth"
    )
    for name in ("empty.pt", "empty.safetensors"):
        (tmp_path / name).touch()
        refused(tmp_path / name, rf"{name}: cannot be read \(.+\)\. Is the file whole")
    torch.save({"model": Code()}, tmp_path / "code.pt")
    refused(tmp_path / "code.pt", r"code\.pt: cannot be read \(Weights only load failed")
    torch.save({"state_dict": {}}, tmp_path / "nested.pt")
    refused(
        tmp_path / "nested.pt", r"nested\.pt: holds a dict, but a state dict is tensors by name"
    )
    path = published_file(tmp_path)
    refused(
        path, r"does not fit wavlm_base: encoder.* is \(24, 16\), but .* \(32, 16\)\. Choose",
        inner=32,
    )  # fmt: skip
    refused(
        path,
        r"does not fit hubert_base: \d+ tensors are missing and \d+ unknown, but",
        model="hubert_base",
    )
    names = torch.load(path, weights_only=True)
    count = sum(name.startswith("encoder.transformer.layers.1.") for name in names)
    message = f"does not fit wavlm_base: {count} tensors are missing and 0 unknown, but all"
    refused(path, message, num_layers=3)


# ---- settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "wavlm"}, r"model is 'wavlm', but it may be wavlm_base, wavlm_large, "),
        (
            {"width": 24},
            r"front_end\.width: is 24, but it must be a multiple of num_heads, 2, and of 16",
        ),
        ({"num_heads": 3}, r"front_end\.width: is 16, but it must be a multiple of num_heads, 3"),
        ({"stacked": 0}, r"stacked is 0, but it is at least 1"),
        ({"num_layers": 0}, r"num_layers is 0, but it is at least 1"),
        ({"dropout": 1.5}, r"dropout is 1\.5, but"),
    ],
)
def test_settings_that_cannot_be(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Ssl(SslConfig(**(TINY | changes)))
