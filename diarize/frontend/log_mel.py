"""Log-mel energies of a waveform, as the published SortFormer models were trained on.

B batch, N samples, F feature frames, M mel bins.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torchaudio.functional import melscale_fbanks

from diarize.audio import SAMPLE_RATE
from diarize.config import check_choice, check_least
from diarize.errors import ConfigError
from diarize.graph import full_precision, is_written, taken

LOG_FLOOR = 2.0**-24
"""Added to every mel energy before the logarithm."""

PEAK_FLOOR = 1e-3
"""Added to an item's peak before dividing by it."""

DEVIATION_FLOOR = 1e-5
"""Added to every standard deviation before dividing by it."""


@dataclass
class LogMelConfig:
    """Settings of `LogMel`."""

    sample_rate: int = 16000
    """Samples per second."""
    num_mels: int = 80
    """Mel bins between 0 Hz and half the sample rate (Slaney's scale and area)."""
    window_samples: int = 400
    """Length of the symmetric Hann window."""
    hop_samples: int = 160
    """Samples between feature frames."""
    num_fft: int = 512
    """Length of the Fourier transform; the window stands in its middle."""
    pre_emphasis: float = 0.97
    """Share of the previous sample subtracted from each sample."""
    dither: float = 1e-5
    """Standard deviation of the noise added to the waveform, in training only."""
    normalization: str = "per_feature"
    """``per_feature``: zero mean and unit deviation per item and mel bin; ``none``."""
    prior_seconds: float = 0.0
    """What a stream, which ``per_feature`` normalizes by what it has heard so far, begins with: so
    many seconds like those of training. 0: training does not note what it hears, and the model
    needs whole recordings."""
    peak_scaling: str = "none"
    """``item``: divide by the item's largest sample, as the published offline models do with a
    batch of one (in a larger one, by the largest of all items); ``none``."""
    frequency_masks: int = 0
    """Bands of neighbouring mel bins that are blanked in each item, in training only (SpecAugment,
    Park et al., arXiv:1904.08779)."""
    mask_bins: int = 24
    """Most bins of a band; how many is drawn, none included."""
    mask_value: float = -15.0
    """What blanked bins hold: next to silence, but for normalised features, whose mean is 0."""

    def __post_init__(self) -> None:
        check_least(self, num_mels=1, window_samples=1, hop_samples=1, num_fft=1, dither=0)
        check_least(self, frequency_masks=0, mask_bins=0, prior_seconds=0)
        check_choice("normalization", self.normalization, ("per_feature", "none"))
        check_choice("peak_scaling", self.peak_scaling, ("item", "none"))
        if self.sample_rate != SAMPLE_RATE:
            raise ConfigError(
                f"sample_rate is {self.sample_rate}, but audio of any rate is heard at "
                f"{SAMPLE_RATE}. Leave it out."
            )

    @property
    def has_prior(self) -> bool:
        """Whether what training heard is noted, for streams to begin with."""
        return self.normalization == "per_feature" and self.prior_seconds > 0

    @property
    def streams(self) -> bool:
        """Whether a frame needs nothing that is yet to come."""
        return self.peak_scaling == "none" and (self.normalization == "none" or self.has_prior)


class _Exactly(TorchFunctionMode):
    """Makes torchaudio compute in float64.

    In float32, edges of filters are off by up to 7e-4 of a filter's smallest weights, and
    posteriors by 3e-5.
    """

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is torch.linspace:
            kwargs = {**kwargs, "dtype": torch.float64}
        return function(*args, **kwargs)


class LogMel(nn.Module):
    """Log-mel energies, float32 whatever the autocast.

    The window and the filter bank are stored with the weights, since published models carry
    their own, rounded, copies; with a prior, what training heard is as well.

    Attributes:
        heard: (3, M), of models with a prior: how many frames training has heard, their mean and
            their variance.
    """

    window: Tensor
    filter_bank: Tensor
    heard: Tensor

    def __init__(self, config: LogMelConfig) -> None:
        super().__init__()
        if config.window_samples > config.num_fft:
            raise ConfigError(
                f"mel.window_samples: is {config.window_samples}, but a window must fit into "
                f"num_fft, {config.num_fft}. Raise num_fft."
            )
        if config.frequency_masks and config.mask_bins > config.num_mels:
            raise ConfigError(
                f"mel.mask_bins: is {config.mask_bins}, but there are only {config.num_mels} "
                "mel bins to blank. Lower it."
            )
        self.config = config
        # Triangles of equal area on Slaney's scale (Auditory Toolbox, Technical Report 1998-010).
        # torchaudio looks at the values, which "meta" has none of.
        with torch.device("cpu"), _Exactly():
            filter_bank = melscale_fbanks(
                config.num_fft // 2 + 1, 0.0, config.sample_rate / 2, config.num_mels,
                config.sample_rate, norm="slaney", mel_scale="slaney",
            ).T.float().numpy()  # fmt: skip
        self.register_buffer("window", torch.hann_window(config.window_samples, periodic=False))
        self.register_buffer("filter_bank", torch.tensor(filter_bank))  # (M, num_fft / 2 + 1)
        if config.has_prior:
            self.register_buffer("heard", torch.zeros(3, config.num_mels))

    def forward(
        self, waveform: Tensor, num_samples: Tensor, so_far: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Features of a batch.

        Args:
            waveform: (B, N), -1 to 1; what lies beyond an item's samples is ignored.
            num_samples: (B,), samples before padding.
            so_far: normalise each frame as a stream does, see `normalized_so_far`; the model has a
                prior, or normalises nothing.

        Returns:
            Features (B, F, M) with F = N // hop_samples, zero beyond an item's frames, and the
            numbers of frames before padding, (B,).
        """
        with full_precision(waveform.device.type):
            num_frames = num_samples // self.config.hop_samples
            mel = self._log_energies(self._prepare(waveform.float(), num_samples))
            valid = _valid(mel, num_frames)
            if self.training and self.config.has_prior:
                self._note(mel, valid)
            if self.config.normalization == "per_feature" and so_far:
                mel, _ = normalized_so_far(mel, *self.prior())
            elif self.config.normalization == "per_feature":
                mel = _normalized(mel, valid, num_frames)
            if self.training and self.config.frequency_masks:
                mel = torch.where(self._blanked(mel), self.config.mask_value, mel)
            return torch.where(valid, mel, 0.0), num_frames

    def prior(self) -> tuple[Tensor, Tensor]:
        """What a stream begins with, `normalized_so_far`'s mean and ``before``.

        It counts for no more frames than training has heard.
        """
        num_frames, mean, variance = self.heard
        rate = self.config.sample_rate / self.config.hop_samples
        count = num_frames.clamp(max=self.config.prior_seconds * rate)
        return mean, torch.stack([count, torch.zeros_like(count), count * variance])

    @torch.no_grad()
    def hear(self, waveform: Tensor, num_samples: Tensor) -> None:
        """Add a batch to what training has heard, see `forward`; nothing is drawn, but in it."""
        mel = self._log_energies(self._prepare(waveform.float(), num_samples))
        self._note(mel, _valid(mel, num_samples // self.config.hop_samples))

    @torch.no_grad()
    def _note(self, mel: Tensor, valid: Tensor) -> None:
        """Add the frames of a batch, and those of processes that train together, to `heard`."""
        known, mean, variance = self.heard
        centred = torch.where(valid, mel - mean, 0.0)
        counts = valid.sum(dtype=mel.dtype).expand_as(mean)
        sums = torch.stack([counts, centred.sum((0, 1)), centred.square().sum((0, 1))])
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(sums)
        count, total, squares = sums
        share = count / (known + count).clamp(min=1)
        offset = total / count.clamp(min=1)
        spread = squares / count.clamp(min=1) - offset.square()
        # Chan, Golub and LeVeque 1979, "Updating formulae", equation 2.1
        variance = variance + share * (spread - variance + (1 - share) * offset.square())
        self.heard.copy_(torch.stack([known + count, mean + share * offset, variance]))

    def _prepare(self, waveform: Tensor, num_samples: Tensor) -> Tensor:
        """The waveform scaled, dithered and pre-emphasised, with silence as padding."""
        samples = torch.arange(waveform.shape[1], device=waveform.device)
        valid = samples < num_samples[:, None]
        if self.config.peak_scaling == "item" and waveform.numel():
            # Signed, as published; silence counts, so that padding changes nothing.
            peak = torch.where(valid, waveform, 0.0).amax(dim=1, keepdim=True)
            waveform = waveform * (1.0 / (peak + PEAK_FLOOR))
        if self.training and self.config.dither > 0:
            waveform = waveform + self.config.dither * torch.randn_like(waveform)
        previous = functional.pad(waveform[:, :-1], (1, 0))
        return torch.where(valid, waveform - self.config.pre_emphasis * previous, 0.0)

    def _blanked(self, mel: Tensor) -> Tensor:
        """The bins of each item that are blanked, (B, 1, M), drawn anew."""
        config, drawn = self.config, (len(mel), self.config.frequency_masks, 1)
        width = torch.randint(0, config.mask_bins + 1, drawn, device=mel.device)
        first = torch.rand(drawn, device=mel.device) * (config.num_mels - width + 1)
        bins = torch.arange(config.num_mels, device=mel.device) - first.long()
        return ((bins >= 0) & (bins < width)).any(dim=1, keepdim=True)

    def _log_energies(self, waveform: Tensor) -> Tensor:
        num_frames = waveform.shape[1] // self.config.hop_samples
        half = self.config.num_fft // 2
        return self.energies(functional.pad(waveform, (half, half)), num_frames)

    def energies(self, emphasised: Tensor, num_frames: int) -> Tensor:
        """Log-mel energies of the first frames, (B, num_frames, M), not normalised.

        Args:
            emphasised: (B, N), pre-emphasised, from half a Fourier transform before the middle of
                the first frame, which stands on the first sample of its hop.
            num_frames: how many.
        """
        config = self.config
        if num_frames == 0:
            return emphasised.new_zeros(emphasised.shape[0], 0, config.num_mels)
        if is_written():
            power = self._written_power(emphasised, num_frames)
        else:
            spectrum = torch.stft(
                emphasised,
                n_fft=config.num_fft,
                hop_length=config.hop_samples,
                win_length=config.window_samples,
                window=self.window,
                center=False,
                return_complex=True,
            )
            power = torch.view_as_real(spectrum[..., :num_frames]).square().sum(dim=-1)
            if not power.requires_grad:  # as NeMo rounds, bit by bit; of 0 the root has no gradient
                power.sqrt_().square_()
        return torch.log(self.filter_bank @ power + LOG_FLOOR).transpose(1, 2)

    def _written_power(self, emphasised: Tensor, num_frames: int) -> Tensor:
        """The power spectrum, (B, bins, F), as products: a Fourier transform is complex.

        In float64, since what is faint beside something loud would drown in what products round.
        """
        config, device = self.config, emphasised.device
        length, num_fft = config.window_samples, config.num_fft
        samples = torch.arange(length, device=device)
        first = torch.arange(num_frames, device=device) * config.hop_samples
        heard = first[:, None] + samples + (num_fft - length) // 2
        windowed = taken(emphasised, 1, heard).double() * self.window.double()  # (B, F, length)
        turns = samples[:, None] * torch.arange(num_fft // 2 + 1, device=device) % num_fft
        angles = [2 * math.pi * n / num_fft for n in range(num_fft)]
        cosine, sine = (
            torch.tensor([wave(angle) for angle in angles], dtype=torch.float64, device=device)
            for wave in (math.cos, math.sin)
        )
        power = (windowed @ taken(cosine, 0, turns)).square()
        power = power + (windowed @ taken(sine, 0, turns)).square()
        return power.float().transpose(1, 2)


def normalized_so_far(mel: Tensor, mean: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Zero mean and unit deviation over all frames until each, and what came before them.

    Frames do not depend on later ones, so that however a recording is cut, they are the same.

    Args:
        mel: (B, F, M), energies.
        mean: (M,), a mean that was expected; sums of deviations from it are small, and exact.
        before: (B, 3, M), or (3, M) for all: of what came before, the number of frames, the sum of
            their deviations and that of the squares of these; in the precision of all sums.

    Returns:
        Features (B, F, M), and the same sums with these frames, (B, 3, M).
    """
    centred = (mel - mean).to(before.dtype)
    terms = torch.stack([torch.ones_like(centred), centred, centred.square()], dim=2)
    first = before.expand(len(mel), 1, *before.shape[-2:]) if before.ndim == 2 else before[:, None]
    sums = torch.cat([first, terms], dim=1).cumsum(dim=1)  # (B, 1 + F, 3, M)
    count, total, squares = sums[:, 1:].unbind(dim=2)
    offset = total / count
    variance = (squares - total * offset).clamp(min=0) / (count - 1).clamp(min=1)
    features = (centred - offset) / (variance.sqrt() + DEVIATION_FLOOR)
    return features.to(mel.dtype), sums[:, -1]


def _valid(mel: Tensor, num_frames: Tensor) -> Tensor:
    """(B, F, 1), True before padding."""
    frames = torch.arange(mel.shape[1], device=mel.device)
    return (frames < num_frames[:, None]).unsqueeze(-1)


def _normalized(mel: Tensor, valid: Tensor, num_frames: Tensor) -> Tensor:
    """Zero mean and unit deviation over valid frames; a single frame has deviation 0."""
    count = num_frames[:, None, None]
    mean = torch.where(valid, mel, 0.0).sum(1, keepdim=True) / count.clamp(min=1)
    centred = torch.where(valid, mel - mean, 0.0)
    variance = centred.square().sum(1, keepdim=True) / (count - 1).clamp(min=1)
    return centred / (variance.sqrt() + DEVIATION_FLOOR)
