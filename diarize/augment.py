"""What rooms, microphones and lines do to speech, as functions of arrays.

Every waveform is (sample,) float32; randomness comes from the generator that the caller owns.
"""

import numpy as np
import soxr
from numpy.random import Generator
from numpy.typing import NDArray
from scipy.signal import oaconvolve

Waveform = NDArray[np.float32]


def level(waveform: Waveform, decibels: float) -> Waveform:
    """The same signal at a root mean square of so many dB below full scale; silence stays."""
    power = float(np.mean(np.square(waveform, dtype=np.float64))) if waveform.size else 0.0
    if power <= 0.0:
        return waveform
    return (waveform * np.float32(10 ** (decibels / 20) / np.sqrt(power))).astype(np.float32)


def change_speed(waveform: Waveform, factor: float) -> Waveform:
    """Played so many times faster: tempo, pitch and formants move, which makes another voice.

    Ko et al. 2015, "Audio augmentation for speech recognition".
    """
    if factor == 1.0 or waveform.size == 0:
        return waveform
    return soxr.resample(waveform, factor, 1.0, quality="LQ").astype(np.float32)


def reverberate(waveform: Waveform, response: Waveform) -> Waveform:
    """Speech as a room response carries it, same length and power, direct sound kept in place.

    Args:
        waveform: (sample,).
        response: (sample,), an impulse response; its strongest sample is the direct path.
    """
    if waveform.size == 0:
        return waveform
    direct = int(np.argmax(np.abs(response)))
    wet = oaconvolve(waveform, response)[direct : direct + waveform.size]
    before = float(np.mean(np.square(waveform, dtype=np.float64)))
    after = float(np.mean(np.square(wet, dtype=np.float64)))
    gain = np.sqrt(before / after) if after > 0 else 1.0
    return (wet * gain).astype(np.float32)


def add_noise(waveform: Waveform, noise: Waveform, snr: float) -> Waveform:
    """A mixture at a signal-to-noise ratio, dB, over the whole of both signals.

    Args:
        waveform: (sample,).
        noise: (sample,), as long as the waveform.
        snr: dB.
    """
    signal = float(np.mean(np.square(waveform, dtype=np.float64)))
    power = float(np.mean(np.square(noise, dtype=np.float64)))
    if signal <= 0.0 or power <= 0.0:
        return waveform
    gain = np.sqrt(signal / power) * 10 ** (-snr / 20)
    return (waveform + noise * np.float32(gain)).astype(np.float32)


def limit_band(waveform: Waveform, sample_rate: int, low: float, high: float) -> Waveform:
    """Only the frequencies between ``low`` and ``high`` Hz, as a telephone line passes them."""
    spectrum = np.fft.rfft(waveform)
    frequency = np.fft.rfftfreq(waveform.size, 1 / sample_rate)
    spectrum[(frequency < low) | (frequency > high)] = 0
    return np.fft.irfft(spectrum, waveform.size).astype(np.float32)


def chance(rng: Generator, probability: float) -> bool:
    """True with a probability; always draws, so that later draws do not depend on it."""
    return bool(rng.random() < probability)
