"""Our model against stored outputs of NeMo 3.0.0 with the same random weights.

``shared/parity/README.md`` says how they were made. Features are float32 logarithms, and where a
bin holds a millionth of its frame's energy the rounding of a Fourier transform shows: the
reference itself is up to 3e-4 off the exact value there.
"""

import io
import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from diarize.config import load_config
from diarize.model import Diarizer, DiarizerConfig

pytestmark = pytest.mark.parity

SIZES = [
    "front_end.width=64",
    "front_end.num_layers=2",
    "front_end.num_heads=4",
    "front_end.subsampling_channels=16",
    "front_end.mel.peak_scaling=batch",
    "encoder.width=32",
    "encoder.inner=64",
    "encoder.num_layers=2",
    "encoder.num_heads=4",
]
VERSIONS = {
    1: SIZES,
    2: [*SIZES, "front_end.mel.num_mels=128", "front_end.mel.normalization=none"],
}

# Published names, as patterns, and ours, in the order in which they are replaced.
NAMES = [
    (r"^preprocessor\.featurizer\.window", "front_end.mel.window"),
    (r"^preprocessor\.featurizer\.fb", "front_end.mel.filter_bank"),
    (r"^encoder\.pre_encode\.conv\.0", "front_end.subsampling.first"),
    (r"^encoder\.pre_encode\.conv\.2", "front_end.subsampling.second_depthwise"),
    (r"^encoder\.pre_encode\.conv\.3", "front_end.subsampling.second_pointwise"),
    (r"^encoder\.pre_encode\.conv\.5", "front_end.subsampling.third_depthwise"),
    (r"^encoder\.pre_encode\.conv\.6", "front_end.subsampling.third_pointwise"),
    (r"^encoder\.pre_encode\.out", "front_end.subsampling.output"),
    (r"^encoder\.layers", "front_end.layers"),
    (r"^transformer_encoder\.", "encoder."),
    (r"^sortformer_modules\.encoder_proj", "projection"),
    (r"^sortformer_modules\.first_hidden_to_hidden", "head.hidden"),
    (r"^sortformer_modules\.single_hidden_to_spks", "head.output"),
    (r"norm_feed_forward1", "norm_first"),
    (r"norm_self_att", "norm_attention"),
    (r"norm_conv", "norm_convolution"),
    (r"norm_feed_forward2", "norm_second"),
    (r"norm_out\.", "norm_output."),
    (r"feed_forward1\.", "feed_forward_first."),
    (r"feed_forward2\.", "feed_forward_second."),
    (r"linear1", "expand"),
    (r"linear2", "project"),
    (r"\.conv\.pointwise_conv1", ".convolution.expand"),
    (r"\.conv\.depthwise_conv", ".convolution.depthwise"),
    (r"\.conv\.batch_norm", ".convolution.norm"),
    (r"\.conv\.pointwise_conv2", ".convolution.project"),
    (r"self_attn\.linear_q", "attention.query"),
    (r"self_attn\.linear_k", "attention.key"),
    (r"self_attn\.linear_v", "attention.value"),
    (r"self_attn\.linear_pos", "attention.position"),
    (r"self_attn\.linear_out", "attention.output"),
    (r"self_attn\.pos_bias_u", "attention.content_bias"),
    (r"self_attn\.pos_bias_v", "attention.position_bias"),
    (r"first_sub_layer\.(query|key|value)_net", r"\1"),
    (r"first_sub_layer\.out_projection", "output"),
    (r"second_sub_layer\.dense_in", "expand"),
    (r"second_sub_layer\.dense_out", "project"),
    (r"layer_norm_1", "norm_attention"),
    (r"layer_norm_2", "norm_feed_forward"),
]
UNUSED = "sortformer_modules.hidden_to_spks."


def our_name(name: str) -> str:
    for published, ours in NAMES:
        name = re.sub(published, ours, name)
    return name


@pytest.fixture(scope="module")
def load(shared: Path) -> Callable[[int], Diarizer]:
    """A function: version -> our model with the reference's weights."""

    def load_version(version: int) -> Diarizer:
        archive = shared / "parity" / "nemo" / f"sortformer_v{version}_tiny_random.nemo"
        with tarfile.open(archive) as tar:
            member = tar.extractfile("./model_weights.ckpt")
            assert member is not None
            published = torch.load(io.BytesIO(member.read()), weights_only=True)
        diarizer = Diarizer(load_config(DiarizerConfig, overrides=VERSIONS[version])).eval()
        own = diarizer.state_dict()
        state = {our_name(n): t for n, t in published.items() if not n.startswith(UNUSED)}
        assert set(state) == set(own)
        diarizer.load_state_dict({n: t.reshape(own[n].shape) for n, t in state.items()})
        return diarizer

    return load_version


@pytest.fixture(scope="module")
def inputs(shared: Path) -> dict[str, Tensor]:
    stored = np.load(shared / "parity" / "nemo" / "inputs.npz")
    return {name: torch.as_tensor(stored[name])[None] for name in ("A", "C")}


def close(ours: Tensor, theirs: np.ndarray, atol: float) -> None:
    torch.testing.assert_close(ours, torch.as_tensor(theirs), atol=atol, rtol=0)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("name", ["A", "C"])
@torch.no_grad()
def test_every_stage_equals_nemo(
    version: int,
    name: str,
    load: Callable[[int], Diarizer],
    inputs: dict[str, Tensor],
    shared: Path,
) -> None:
    folder = shared / "parity" / "nemo"
    expected = np.load(folder / f"v{version}_tiny_offline_{name}.npz")
    diarizer, waveform = load(version), inputs[name]
    num_samples = torch.tensor([waveform.shape[1]])

    features, num_frames = diarizer.front_end.mel(waveform, num_samples)
    assert num_frames.tolist() == expected["mel_len"].tolist()
    theirs = torch.as_tensor(expected["mel"]).transpose(1, 2)[:, : num_frames[0]]
    error = (features - theirs).abs()
    assert error.mean() < 2e-6 and error.max() < 5e-4
    assert (error < 1e-5).float().mean() > 0.98

    # From the reference's own features, so that each stage answers for itself.
    embedding, num_frames = diarizer.front_end.subsampling(theirs, num_frames)
    assert num_frames.tolist() == expected["pre_encode_len"].tolist()
    close(embedding, expected["pre_encode"], 1e-5)
    encoded = diarizer.front_end.encode(embedding, num_frames)
    close(encoded, expected["encoder"], 2e-5)
    close(diarizer.projection(encoded), expected["encoder_proj"], 2e-5)
    transformed = diarizer.encoder(diarizer.projection(encoded), num_frames)
    close(transformed, expected["transformer"], 2e-5)
    close(diarizer.head(transformed).sigmoid(), expected["probs"], 1e-5)

    close(diarizer.posterior(waveform, num_samples)[0], expected["probs"], 2e-5)


@pytest.mark.parametrize("name", ["A", "C"])
@torch.no_grad()
def test_features_are_as_near_to_the_exact_ones_as_nemo_is(
    name: str, load: Callable[[int], Diarizer], inputs: dict[str, Tensor], shared: Path
) -> None:
    stored = np.load(shared / "parity" / "nemo" / f"v2_tiny_offline_{name}.npz")["mel"][0].T
    mel, waveform = load(2).front_end.mel, inputs[name]
    ours, num_frames = mel(waveform, torch.tensor([waveform.shape[1]]))
    scaled = (waveform[0] * (1.0 / (waveform.max() + 1e-3))).double()
    emphasised = torch.cat([scaled[:1], scaled[1:] - 0.97 * scaled[:-1]])
    spectrum = torch.stft(
        emphasised, 512, 160, 400, mel.window.double(), pad_mode="constant", return_complex=True
    )
    power = spectrum.abs().square()[:, : num_frames[0]].T
    exact = (power @ mel.filter_bank.double().T + 2.0**-24).log()
    our_error = (ours[0] - exact).abs()
    their_error = (torch.as_tensor(stored)[: num_frames[0]] - exact).abs()
    assert our_error.mean() < 1.1 * their_error.mean()
    assert our_error.max() < 1.1 * their_error.max()
