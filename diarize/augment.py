"""What rooms, microphones and lines do to speech.

B signals, N samples, K taps; tensors on any device, but for `change_speed`.
"""

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional

NOTHING = 1e-20
"""Power below which there is no sound."""


def change_speed(waveform: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Played so many times faster: tempo, pitch and formants move, which makes another voice.

    Ko et al. 2015, "Audio augmentation for speech recognition".
    """
    if factor == 1.0 or waveform.size == 0:
        return waveform
    return soxr.resample(waveform, factor, 1.0, quality="LQ").astype(np.float32)


def reverberate(waveform: Tensor, response: Tensor, direct: int, num_samples: Tensor) -> Tensor:
    """Speech as room responses carry it: same length and power, direct sound kept in place.

    Args:
        waveform: (B, N), zero beyond each signal.
        response: (B, K), impulse responses.
        direct: tap of the direct path.
        num_samples: (B,) of each signal, beyond which its tail is not heard either.
    """
    longest, taps = waveform.shape[1], response.shape[1]
    size = next_fast_len(4 * taps, real=True)  # blocks that stay in a processor's cache
    step = size - taps + 1
    blocks = -(-(longest + direct) // step)
    padded = functional.pad(waveform, (0, blocks * step - longest))
    spectrum = torch.fft.rfft(padded.view(-1, blocks, step), size)
    spectrum *= torch.fft.rfft(response, size)[:, None]
    long = torch.fft.irfft(spectrum, size)  # (B, block, size), each over the next one's beginning
    wet = long[:, :, :step]
    wet[:, 1:, : taps - 1] += long[:, :-1, step:]
    wet = wet.flatten(1)[:, direct : direct + longest]
    time = torch.arange(longest, device=waveform.device)
    wet = torch.where(time < num_samples[:, None], wet, 0.0)
    power = wet.square().sum(dim=1, keepdim=True)
    gain = (waveform.square().sum(dim=1, keepdim=True) / power.clamp(min=NOTHING)).sqrt()
    return torch.where(power > NOTHING, wet * gain, 0.0)


def add_noise(
    waveform: Tensor, noise: Tensor, snr: Tensor, num_samples: Tensor, quiet: float
) -> Tensor:
    """Mixtures at a signal-to-noise ratio over the whole of both signals.

    Args:
        waveform: (B, N), zero beyond each signal.
        noise: (B, N), likewise.
        snr: (B,), dB.
        num_samples: (B,) of each signal.
        quiet: dB below full scale; speech of this level is thought of where there is none.
    """
    length = num_samples.clamp(min=1)[:, None]
    signal = waveform.square().sum(dim=1, keepdim=True) / length
    power = noise.square().sum(dim=1, keepdim=True) / length
    signal = torch.where(signal > NOTHING, signal, 10 ** (quiet / 10))
    gain = (signal / power.clamp(min=NOTHING)).sqrt() * 10 ** (-snr[:, None] / 20)
    return waveform + torch.where(power > NOTHING, noise * gain, 0.0)


def limit_band(waveform: Tensor, sample_rate: int, band: Tensor) -> Tensor:
    """Only the frequencies that a line passes, (B, N).

    Args:
        waveform: (B, N).
        sample_rate: Hz.
        band: (B, 2), lowest and highest frequency, Hz.
    """
    spectrum = torch.fft.rfft(waveform)
    frequency = torch.fft.rfftfreq(waveform.shape[1], 1 / sample_rate, device=waveform.device)
    inside = (frequency >= band[:, :1]) & (frequency <= band[:, 1:])
    limited: Tensor = torch.fft.irfft(torch.where(inside, spectrum, 0), waveform.shape[1])
    return limited


def overdrive(waveform: Tensor, decibels: Tensor) -> Tensor:
    """As a recorder clips what is too loud: the peak so much above full scale, and cut off there.

    Args:
        waveform: (B, N).
        decibels: (B,), NaN where the peak is at most brought down to full scale.
    """
    peak = waveform.abs().amax(dim=1, keepdim=True).clamp(min=NOTHING)
    asked = 10 ** (decibels[:, None] / 20) / peak
    gain = torch.where(decibels.isnan()[:, None], 1 / peak.clamp(min=1.0), asked)
    return (waveform * gain).clamp(-1.0, 1.0)
