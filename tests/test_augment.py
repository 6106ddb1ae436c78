"""What rooms, microphones and lines do to speech."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import fftconvolve
from tones import SAMPLE_RATE, tone
from torch import Tensor

from diarize.augment import add_noise, change_speed, limit_band, overdrive, reverberate


def power(waveform: Tensor) -> float:
    return float(waveform.double().square().mean())


def row(waveform: np.ndarray) -> Tensor:
    """(1, N)."""
    return torch.from_numpy(np.asarray(waveform, dtype=np.float32))[None]


def strongest(waveform: np.ndarray) -> float:
    """Frequency with the most power, Hz."""
    spectrum = np.abs(np.fft.rfft(waveform))
    return float(np.argmax(spectrum) * SAMPLE_RATE / waveform.size)


@pytest.mark.parametrize("factor", [0.88, 1.14])
def test_speed_moves_length_and_pitch(factor: float) -> None:
    faster = change_speed(tone(200.0, 2.0), factor)
    assert faster.dtype == np.float32
    assert faster.size == pytest.approx(2 * SAMPLE_RATE / factor, abs=2)
    assert strongest(faster) == pytest.approx(200.0 * factor, abs=1.0)


def test_speed_one_changes_nothing() -> None:
    waveform = tone(200.0, 0.1)
    assert change_speed(waveform, 1.0) is waveform
    assert change_speed(np.zeros(0, np.float32), 1.14).size == 0


def test_direct_path_stays_in_place() -> None:
    waveform, response = torch.zeros(2, 1000), torch.zeros(2, 500)
    waveform[:, 300] = 1.0
    response[:, 120], response[0, 200], response[1, 100] = 0.8, 0.4, 0.4
    wet = reverberate(
        waveform, response, 120, torch.tensor([1000, 1000])
    )  # direct sound after 7.5 ms, one reflection
    assert wet.shape == waveform.shape
    assert [torch.nonzero(each.abs() > 1e-4).flatten().tolist() for each in wet] == [
        [300, 380],
        [280, 300],
    ]
    assert wet[0, 300] == pytest.approx(2 * float(wet[0, 380]), rel=1e-4)
    assert power(wet) == pytest.approx(power(waveform), rel=1e-5)


@pytest.mark.parametrize(("num_samples", "taps"), [(5000, 300), (301, 300), (20, 300), (4096, 1)])
def test_a_room_is_a_convolution(num_samples: int, taps: int) -> None:
    rng = np.random.default_rng(0)
    waveform, response = rng.normal(size=(3, num_samples)), rng.normal(size=(3, taps))
    direct = taps // 3
    wet = np.stack([fftconvolve(w, r) for w, r in zip(waveform, response, strict=True)])
    wet = wet[:, direct : direct + num_samples]
    wet *= np.sqrt((waveform**2).sum(1) / (wet**2).sum(1))[:, None]
    made = reverberate(
        torch.tensor(waveform).float(),
        torch.tensor(response).float(),
        direct,
        torch.full((3,), num_samples),
    )
    assert made.numpy() == pytest.approx(wet, abs=2e-5)


def test_padding_changes_nothing_in_a_room() -> None:
    response = torch.rand(1, 90, generator=torch.Generator().manual_seed(0))
    alone, length = row(tone(200.0, 0.05)), torch.tensor([800])
    padded = torch.cat([alone, torch.zeros(1, 500)], dim=1)
    wet = reverberate(padded, response, 10, length)
    assert not wet[:, 800:].any()
    assert torch.allclose(wet[:, :800], reverberate(alone, response, 10, length), atol=1e-6)


def test_silence_stays_silent_in_a_room() -> None:
    assert not reverberate(torch.zeros(1, 100), torch.ones(1, 10), 0, torch.tensor([100])).any()


@given(st.floats(-10.0, 40.0), st.floats(0.001, 1.0))
@settings(deadline=None, max_examples=20)
def test_noise_has_the_ratio_that_was_asked(snr: float, amplitude: float) -> None:
    speech = torch.cat([row(tone(200.0, 0.5)), torch.zeros(1, 4000)], dim=1)
    noise = amplitude * row(np.random.default_rng(1).normal(size=12000))
    noise[:, 8000:] = 0.0  # the signal ends there
    mixed = add_noise(speech, noise, torch.tensor([snr]), torch.tensor([8000]), -26.0)
    added = mixed.double() - speech
    assert 10 * math.log10(power(speech) / power(added)) == pytest.approx(snr, abs=0.05)


def test_where_nobody_speaks_noise_is_as_loud_as_beside_speech() -> None:
    noise = row(np.random.default_rng(1).normal(size=8000))
    alone = add_noise(torch.zeros(1, 8000), noise, torch.tensor([10.0]), torch.tensor([8000]), -26)
    assert 10 * math.log10(power(alone)) == pytest.approx(-36.0, abs=0.01)
    speech = row(tone(200.0, 0.5))
    silent = torch.zeros(1, 8000)
    unheard = add_noise(speech, silent, torch.tensor([10.0]), torch.tensor([8000]), -26.0)
    assert torch.equal(unheard, speech)


@pytest.mark.parametrize("num_samples", [16000, 15999])
def test_line_passes_its_band_alone(num_samples: int) -> None:
    time = np.arange(num_samples) / SAMPLE_RATE
    inside = np.sin(2 * np.pi * 1000 * time)
    outside = np.sin(2 * np.pi * 100 * time) + np.sin(2 * np.pi * 5000 * time)
    passed = limit_band(row(inside + outside), SAMPLE_RATE, torch.tensor([[300.0, 3400.0]]))
    assert passed.shape == (1, num_samples)
    assert power((passed - row(inside))[:, 1000:-1000]) < 1e-4


def test_what_is_too_loud_is_cut_off_only_where_it_is_asked() -> None:
    loud, quiet = 2.0 * row(tone(200.0, 0.1, 1.0)), row(tone(200.0, 0.1, 0.1))
    both = torch.cat([loud, quiet])
    as_it_is = overdrive(both, torch.tensor([math.nan, math.nan]))
    assert as_it_is[0].abs().max() == pytest.approx(1.0) and torch.equal(as_it_is[1], quiet[0])
    assert float(torch.corrcoef(torch.stack([as_it_is[0], loud[0]]))[0, 1]) > 1 - 1e-6
    cut = overdrive(both, torch.tensor([6.0, 6.0]))
    assert cut.abs().amax(dim=1).tolist() == [1.0, 1.0]
    assert torch.allclose(cut[0], cut[1], atol=1e-5)
    assert 0.1 < float((cut[1].abs() == 1.0).float().mean()) < 0.9
    assert not overdrive(torch.zeros(1, 9), torch.tensor([6.0])).any()
