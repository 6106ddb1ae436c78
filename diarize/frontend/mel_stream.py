"""Log-mel features of samples as they come.

F feature frames, M mel bins.
"""

import torch
from torch import Tensor

from diarize.frontend.log_mel import LogMel, normalized_so_far
from diarize.latency import rows_known


class MelStream:
    """The log-mel features of a whole recording, whatever the pieces that it comes in.

    A model that normalises ``per_feature`` has each frame normalised by those until it and by its
    prior, since later ones are not known.

    Attributes:
        emphasised: (sample,), pre-emphasised samples that frames to come will hear.
        last_sample: (1,), the last one as it came.
        num_samples: samples so far.
        num_frames: frames handed out so far.
        heard: (3, M), float64, what they add up to, see `normalized_so_far`; None where nothing is
            normalised.
    """

    def __init__(self, mel: LogMel) -> None:
        self._mel = mel
        # What a frame hears begins half a Fourier transform before its first sample.
        self.emphasised = torch.zeros(mel.config.num_fft // 2)
        self.last_sample = torch.zeros(1)
        self.num_samples = 0
        self.num_frames = 0
        self.heard: Tensor | None = None
        if mel.config.normalization == "per_feature":
            mean, before = mel.prior()
            self._mean, self.heard = mean.cpu(), before.cpu().double()

    def push(self, samples: Tensor) -> Tensor:
        """The frames that these samples complete, (F, M)."""
        if not len(samples):
            return torch.zeros(0, self._mel.config.num_mels)
        previous = torch.cat([self.last_sample, samples[:-1]])
        emphasised = samples - self._mel.config.pre_emphasis * previous
        self.emphasised = torch.cat([self.emphasised, emphasised])
        self.last_sample = samples[-1:].clone()
        self.num_samples += len(samples)
        half, hop = self._mel.config.num_fft // 2, self._mel.config.hop_samples
        return self._take(rows_known(self.num_samples, hop, half, False) - self.num_frames)

    def finish(self) -> Tensor:
        """The frames that hear silence after the last sample, (F, M)."""
        half, hop = self._mel.config.num_fft // 2, self._mel.config.hop_samples
        self.emphasised = torch.cat([self.emphasised, torch.zeros(half)])
        return self._take(rows_known(self.num_samples, hop, half, True) - self.num_frames)

    @torch.inference_mode()
    def _take(self, num_frames: int) -> Tensor:
        """The next frames; what no later one hears is forgotten."""
        config = self._mel.config
        if num_frames <= 0:
            return torch.zeros(0, config.num_mels)
        device = self._mel.window.device
        length = (num_frames - 1) * config.hop_samples + config.num_fft
        heard = self.emphasised[None, :length].to(device)
        energies = self._mel.energies(heard, num_frames)[0].cpu()
        self.emphasised = self.emphasised[num_frames * config.hop_samples :].clone()
        self.num_frames += num_frames
        if self.heard is None:
            return energies
        features, (self.heard,) = normalized_so_far(energies[None], self._mean, self.heard)
        return features[0]
