"""WavLM, HuBERT and wav2vec 2: networks that learned to hear from speech without labels.

torchaudio builds them and its state dicts fill them. A learned mean of what all layers say is the
embedding of 20 ms (Yang et al. 2021, "SUPERB"); neighbours may stand side by side on a coarser
clock.

B batch, N samples, L frames of a convolution, C its channels, T frames, W width, D embedding width.
"""

import pickle
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
import torchaudio
from torch import Tensor, nn
from torch.nn import functional

from diarize.attention import MASKED
from diarize.config import check_choice, check_least, check_shares
from diarize.errors import CheckpointError, ConfigError
from diarize.frames import FrameGrid

SAMPLE_RATE = 16000
"""What all of them hear."""

CONVOLUTIONS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
"""Kernel and stride of each: 400 samples are heard every 320."""

STEP = 320
"""Samples from frame to frame: 20 ms."""

MARGIN = 40
"""Samples heard on either side of a frame's own; silence where the recording has none."""

POSITION_GROUPS = 16
"""Of the convolution that tells where a frame is; they divide the width."""


class _Published(NamedTuple):
    """Sizes of a published model, and what sets the large ones apart.

    Attributes:
        width: of the layers.
        num_layers: of attention.
        num_heads: in each.
        inner: width of the feed-forward modules.
        frame_norm: whether every convolution is normalised frame by frame; else the first alone,
            over the whole recording.
        bias: whether convolutions have one.
        pre_norm: whether a layer normalises what it hears; else what it says.
        scaled: whether a recording is brought to mean 0 and variance 1 first.
    """

    width: int
    num_layers: int
    num_heads: int
    inner: int
    frame_norm: bool = False
    bias: bool = False
    pre_norm: bool = False
    scaled: bool = False


BASE = _Published(768, 12, 12, 3072)
LARGE = _Published(1024, 24, 16, 4096, frame_norm=True, pre_norm=True, scaled=True)
LV60K = LARGE._replace(bias=True)

PUBLISHED = {
    "wavlm_base": BASE,
    "wavlm_large": LARGE,
    "hubert_base": BASE,
    "hubert_large": LARGE,
    "hubert_xlarge": LARGE._replace(width=1280, num_layers=48, inner=5120),
    "wav2vec2_base": BASE,
    "wav2vec2_large": BASE._replace(width=1024, num_layers=24, num_heads=16, inner=4096),
    "wav2vec2_large_lv60k": LV60K,
    "wav2vec2_xlsr_300m": LV60K,
    "wav2vec2_xlsr_1b": LV60K._replace(width=1280, num_layers=48, inner=5120),
    "wav2vec2_xlsr_2b": LV60K._replace(width=1920, num_layers=48, inner=7680),
}
"""By the names that torchaudio has for them."""


@dataclass
class SslConfig:
    """Settings of `Ssl`; sizes that are null are the published model's."""

    model: str = "wavlm_base"
    """``wavlm_base`` (also of WavLM Base+), ``wavlm_large``, ``hubert_base``, ``hubert_large``,
    ``hubert_xlarge``, ``wav2vec2_base``, ``wav2vec2_large``, ``wav2vec2_large_lv60k`` (also of
    XLSR-53), ``wav2vec2_xlsr_300m``, ``wav2vec2_xlsr_1b`` or ``wav2vec2_xlsr_2b``."""
    weights: str | None = None
    """A state dict of torchaudio, ``.pt``, ``.pth`` or ``.safetensors``; null draws weights. It is
    read where training starts: a trained model has its own."""
    stacked: int = 1
    """Frames of 20 ms side by side in one frame."""
    width: int | None = None
    """Of the layers."""
    num_layers: int | None = None
    """Of attention; with ``weights``, the first so many of the file are taken."""
    num_heads: int | None = None
    """Attention heads; they divide the width."""
    inner: int | None = None
    """Width inside the feed-forward modules."""
    channels: int = 512
    """Of the convolutions."""
    dropout: float = 0.1
    """Before, on and after attention."""

    def __post_init__(self) -> None:
        check_choice("model", self.model, list(PUBLISHED))
        check_least(self, stacked=1, width=1, num_layers=1, num_heads=1, inner=1, channels=1)
        check_shares(self, "dropout")


class Ssl(nn.Module):
    """Waveform to one embedding per 20 ms, or per so many of them as are stacked.

    Attributes:
        config: with all sizes, and without the file of weights: what is read is this model's own.
    """

    config: SslConfig

    def __init__(self, config: SslConfig) -> None:
        super().__init__()
        published = PUBLISHED[config.model]
        sizes = {
            name: getattr(config, name) or getattr(published, name)
            for name in ("width", "num_layers", "num_heads", "inner")
        }
        self.config = replace(config, weights=None, **sizes)
        self._scaled = published.scaled
        self._gated = config.model.startswith("wavlm")
        width, num_heads = sizes["width"], sizes["num_heads"]
        if width % num_heads or width % POSITION_GROUPS:
            raise ConfigError(
                f"front_end.width: is {width}, but it must be a multiple of num_heads, "
                f"{num_heads}, and of {POSITION_GROUPS}. Change one of them."
            )
        self.model = _build(self.config, published)
        self.layer_weights = nn.Parameter(torch.zeros(sizes["num_layers"] + 1))
        self.norm = nn.LayerNorm(self.embedding_dim)
        if config.weights is not None and not self.layer_weights.is_meta:
            _load(self.model, Path(config.weights), config.model, sizes["num_layers"])

    @property
    def grid(self) -> FrameGrid:
        """The clock of the embeddings."""
        return FrameGrid(SAMPLE_RATE, STEP * self.config.stacked, step=STEP)

    @property
    def embedding_dim(self) -> int:
        """Width of the embeddings."""
        return cast(int, self.config.width) * self.config.stacked

    def forward(self, waveform: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Embeddings of a batch.

        Args:
            waveform: (B, N), -1 to 1.
            num_samples: (B,), samples before padding.

        Returns:
            Embeddings (B, T, D), without meaning beyond an item's frames, and the numbers of
            frames before padding, (B,).
        """
        stacked = self.config.stacked
        num_frames = num_samples // STEP
        if waveform.shape[1] < STEP:
            empty = waveform.new_zeros(waveform.shape[0], 0, self.embedding_dim)
            return empty, -(-num_frames // stacked)
        features = self.convolve(waveform, num_samples)
        padding = ~_valid(num_frames, features.shape[1])
        hidden = self.attend(features, padding).masked_fill(padding.unsqueeze(-1), 0.0)
        hidden = functional.pad(hidden, (0, 0, 0, -hidden.shape[1] % stacked))
        rows = hidden.unflatten(1, (-1, stacked)).flatten(2)  # (B, T, stacked * W)
        return self.norm(rows), -(-num_frames // stacked)

    def convolve(self, waveform: Tensor, num_samples: Tensor) -> Tensor:
        """Waveform (B, N) to features (B, N // 320, C), each of its 20 ms and 2.5 on either side.

        Means and variances are those of an item's own samples, so that padding changes nothing.
        """
        hidden = waveform.masked_fill(~_valid(num_samples, waveform.shape[1]), 0.0)
        if self._scaled:
            hidden = _normalized(hidden.unsqueeze(1), num_samples).squeeze(1)
        hidden = functional.pad(hidden, (MARGIN, MARGIN)).unsqueeze(1)  # (B, 1, L)
        length = num_samples + 2 * MARGIN
        for layer, (kernel, stride) in zip(
            self.model.feature_extractor.conv_layers, CONVOLUTIONS, strict=True
        ):
            length = ((length - kernel) // stride + 1).clamp(min=0)
            hidden = layer.conv(hidden)  # (B, C, L)
            if isinstance(layer.layer_norm, nn.GroupNorm):  # of each channel over time
                scale, shift = layer.layer_norm.weight, layer.layer_norm.bias
                hidden = _normalized(hidden, length) * scale[:, None] + shift[:, None]
            elif layer.layer_norm is not None:
                hidden = layer.layer_norm(hidden)
            hidden = functional.gelu(hidden)
        return hidden.transpose(1, 2)

    def attend(self, features: Tensor, padding: Tensor) -> Tensor:
        """Features (B, T, C) to the mean of what all layers say, (B, T, W).

        Args:
            features: of `convolve`.
            padding: (B, T), True beyond an item's frames.
        """
        transformer = self.model.encoder.transformer
        hidden = self.model.encoder.feature_projection(features)
        hidden = hidden.masked_fill(padding.unsqueeze(-1), 0.0)
        hidden = hidden + transformer.pos_conv_embed(hidden)
        if transformer.layer_norm_first:
            hidden = transformer.layer_norm(hidden)
        hidden = transformer.dropout(hidden)
        told: dict[str, Any] = {}
        if bool(padding.any()):
            scores = padding.to(_exact(features)) * MASKED  # (B, T)
            every = scores[:, None, None].expand(-1, 1, scores.shape[1], -1)
            told = {"key_padding_mask": scores} if self._gated else {"attention_mask": every}
        share = self.layer_weights.softmax(0)
        mean, bias = share[0] * hidden, None
        for number, layer in enumerate(transformer.layers, start=1):
            hidden, bias = layer(hidden, position_bias=bias, **told)
            last = number == len(transformer.layers) and not transformer.layer_norm_first
            mean = mean + share[number] * (transformer.layer_norm(hidden) if last else hidden)
        return mean


def _build(config: SslConfig, published: _Published) -> Any:
    """A model of torchaudio, its weights drawn."""
    gated = config.model.startswith("wavlm")
    made = torchaudio.models.wavlm_model if gated else torchaudio.models.wav2vec2_model
    # Positions up to 800 frames apart share 320 parameters of each head.
    positions = {"encoder_num_buckets": 320, "encoder_max_distance": 800} if gated else {}
    return made(
        extractor_mode="layer_norm" if published.frame_norm else "group_norm",
        extractor_conv_layer_config=[(config.channels, *sizes) for sizes in CONVOLUTIONS],
        extractor_conv_bias=published.bias,
        encoder_embed_dim=config.width,
        encoder_projection_dropout=config.dropout,
        encoder_pos_conv_kernel=128,
        encoder_pos_conv_groups=POSITION_GROUPS,
        encoder_num_layers=config.num_layers,
        encoder_num_heads=config.num_heads,
        encoder_attention_dropout=config.dropout,
        encoder_ff_interm_features=config.inner,
        encoder_ff_interm_dropout=0.0,
        encoder_dropout=config.dropout,
        encoder_layer_norm_first=published.pre_norm,
        encoder_layer_drop=0.0,
        aux_num_out=None,
        **positions,
    )


def _load(model: nn.Module, path: Path, name: str, num_layers: int) -> None:
    """Fill a model from a file.

    Raises:
        CheckpointError: if it cannot be read, or is of another model.
    """
    tensors = _read(path)
    beyond = tuple(
        key for key in tensors if key.startswith("aux.") or _layer(key) >= num_layers
    )  # letters that a recogniser writes, and layers that are left out
    for key in beyond:
        del tensors[key]
    try:
        missing, unknown = model.load_state_dict(tensors, strict=False)
    except RuntimeError:
        own = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
        faults = (
            f"{key} is {tuple(tensor.shape)}, but the model's is {own[key]}"
            for key, tensor in tensors.items()
            if own.get(key, tensor.shape) != tensor.shape
        )
        raise CheckpointError(
            f"{path}: does not fit {name}: {next(faults, 'shapes differ')}. Choose front_end.model "
            "and its sizes as the file has them."
        ) from None
    if missing or unknown:
        first = f"{missing[0]} is missing" if missing else f"{unknown[0]} is not in the model"
        raise CheckpointError(
            f"{path}: does not fit {name}: {len(missing)} tensors are missing and {len(unknown)} "
            f"unknown, but all must be known; {first}. Is it torchaudio's state dict of {name}?"
        )


def _read(path: Path) -> dict[str, Tensor]:
    """Tensors by name; nothing else is unpickled."""
    if path.suffix not in (".pt", ".pth", ".safetensors"):
        raise CheckpointError(
            f"{path}: ends in {path.suffix!r}, but weights are read from .pt, .pth or "
            ".safetensors. Convert them."
        )
    if not path.is_file():
        raise CheckpointError(
            f"{path}: is no file, but front_end.weights names one. Check the path, or leave it out "
            "to start from drawn weights."
        )
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    unreadable = (OSError, EOFError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except (*unreadable, SafetensorError) as error:
        reason, *_ = str(error).splitlines() or ["it ends too soon"]
        raise CheckpointError(f"{path}: cannot be read ({reason}). Is the file whole?") from None
    if not isinstance(tensors, dict) or not all(isinstance(t, Tensor) for t in tensors.values()):
        raise CheckpointError(
            f"{path}: holds a {type(tensors).__name__}, but a state dict is tensors by name. Take "
            "it out of what is around it, and save it alone."
        )
    return tensors


def _layer(key: str) -> int:
    """Number of the layer of attention that a tensor belongs to; -1 for all others."""
    before, found, rest = key.partition("encoder.transformer.layers.")
    number = rest.partition(".")[0]
    return int(number) if found and not before and number.isdigit() else -1


def _valid(lengths: Tensor, size: int) -> Tensor:
    """(B, size), True before padding."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def _normalized(hidden: Tensor, lengths: Tensor) -> Tensor:
    """(B, C, L) with mean 0 and variance 1 over an item's own part of L, and zeros beyond it."""
    valid = _valid(lengths, hidden.shape[2]).unsqueeze(1)
    hidden, count = hidden.to(_exact(hidden)), lengths.clamp(min=1)[:, None, None]
    mean = (hidden * valid).sum(2, keepdim=True) / count
    centred = (hidden - mean) * valid
    variance = centred.square().sum(2, keepdim=True) / count
    return centred * (variance + 1e-5).rsqrt()


def _exact(tensor: Tensor) -> torch.dtype:
    """What sums and scores are kept in: float32, unless a tensor is finer."""
    return torch.promote_types(tensor.dtype, torch.float32)
