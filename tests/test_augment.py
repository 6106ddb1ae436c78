"""What rooms, microphones and lines do to speech."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tones import SAMPLE_RATE, tone

from diarize.augment import add_noise, chance, change_speed, level, limit_band, reverberate


def power(waveform: np.ndarray) -> float:
    return float(np.mean(np.square(waveform, dtype=np.float64)))


def strongest(waveform: np.ndarray) -> float:
    """Frequency with the most power, Hz."""
    spectrum = np.abs(np.fft.rfft(waveform))
    return float(np.argmax(spectrum) * SAMPLE_RATE / waveform.size)


@given(st.floats(-60.0, 0.0), st.floats(0.001, 1.0))
@settings(deadline=None, max_examples=20)
def test_level_is_the_root_mean_square_in_decibels(decibels: float, amplitude: float) -> None:
    changed = level(tone(200.0, 0.1, amplitude), decibels)
    assert changed.dtype == np.float32
    assert 10 * np.log10(power(changed)) == pytest.approx(decibels, abs=0.01)


def test_silence_has_no_level() -> None:
    assert not level(np.zeros(8, np.float32), -20.0).any()
    assert level(np.zeros(0, np.float32), -20.0).size == 0


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
    waveform = np.zeros(1000, np.float32)
    waveform[300] = 1.0
    response = np.zeros(500, np.float32)
    response[[120, 200]] = 0.8, 0.4  # direct sound after 7.5 ms, one reflection
    wet = reverberate(waveform, response)
    assert wet.shape == waveform.shape and wet.dtype == np.float32
    assert np.flatnonzero(np.abs(wet) > 1e-4).tolist() == [300, 380]
    assert wet[300] == pytest.approx(2 * wet[380], rel=1e-4)
    assert power(wet) == pytest.approx(power(waveform), rel=1e-5)


def test_room_without_reflections_changes_nothing() -> None:
    waveform = tone(200.0, 0.5)
    response = np.zeros(64, np.float32)
    response[40] = -0.3
    assert reverberate(waveform, response) == pytest.approx(-waveform, abs=1e-6)
    assert reverberate(np.zeros(0, np.float32), response).size == 0


@given(st.floats(-10.0, 40.0), st.floats(0.001, 1.0))
@settings(deadline=None, max_examples=20)
def test_noise_has_the_ratio_that_was_asked(snr: float, amplitude: float) -> None:
    speech = tone(200.0, 0.5)
    noise = (amplitude * np.random.default_rng(1).normal(size=speech.size)).astype(np.float32)
    added = add_noise(speech, noise, snr).astype(np.float64) - speech
    assert 10 * np.log10(power(speech) / power(added)) == pytest.approx(snr, abs=0.05)


def test_silence_neither_is_noise_nor_gets_any() -> None:
    speech, silence = tone(200.0, 0.1), np.zeros(1600, np.float32)
    assert add_noise(speech, silence, 10.0) is speech
    assert add_noise(silence, speech, 10.0) is silence


@pytest.mark.parametrize("num_samples", [16000, 15999])
def test_line_passes_its_band_alone(num_samples: int) -> None:
    time = np.arange(num_samples) / SAMPLE_RATE
    inside = np.sin(2 * np.pi * 1000 * time)
    outside = np.sin(2 * np.pi * 100 * time) + np.sin(2 * np.pi * 5000 * time)
    passed = limit_band((inside + outside).astype(np.float32), SAMPLE_RATE, 300.0, 3400.0)
    assert passed.dtype == np.float32 and passed.size == num_samples
    assert power(passed[1000:-1000] - inside[1000:-1000]) < 1e-4


def test_chance_draws_whatever_the_probability() -> None:
    one, other = np.random.default_rng(3), np.random.default_rng(3)
    assert not any(chance(one, 0.0) for _ in range(50))
    assert all(chance(other, 1.0) for _ in range(50))
    assert one.random() == other.random()
