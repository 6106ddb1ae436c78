import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diarize.errors import ConfigError
from diarize.frontend.log_mel import LogMel, LogMelConfig


def filter_bank(num_mels: int) -> np.ndarray:
    return LogMel(LogMelConfig(num_mels=num_mels)).filter_bank.numpy()


def features(waveform: np.ndarray, num_mels: int = 80) -> np.ndarray:
    """Log-mel energies in float64, one frame at a time, straight from the definition."""
    emphasised = np.append(waveform[:1], waveform[1:] - 0.97 * waveform[:-1])
    padded = np.pad(emphasised, 256)
    window = np.pad(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399), 56)
    bins = np.exp(-2j * np.pi * np.outer(np.arange(257), np.arange(512)) / 512)
    frames = [
        np.abs(bins @ (window * padded[start : start + 512])) ** 2
        for start in range(0, len(waveform) // 160 * 160, 160)
    ]
    return np.log(np.stack(frames) @ filter_bank(num_mels).T + 2.0**-24)


def noise(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of noise, padded with noise, too: what is padding must not matter."""
    source = torch.Generator().manual_seed(0)  # what fails can be repeated
    drawn = torch.randn(len(lengths), max(lengths), generator=source)
    return drawn * 0.1, torch.tensor(lengths)


@pytest.mark.parametrize("num_mels", [40, 80, 128])
def test_filter_bank_is_the_one_of_librosa(num_mels: int) -> None:
    librosa = pytest.importorskip("librosa")
    expected = librosa.filters.mel(sr=16000, n_fft=512, n_mels=num_mels, htk=False, norm="slaney")
    np.testing.assert_allclose(filter_bank(num_mels), expected, rtol=1e-6)


def test_features_follow_the_definition() -> None:
    waveform, num_samples = noise(4000)
    mel, num_frames = LogMel(LogMelConfig(normalization="none")).eval()(waveform, num_samples)
    assert mel.shape == (1, 25, 80) and num_frames.tolist() == [25]
    np.testing.assert_allclose(mel[0], features(waveform[0].double().numpy()), atol=2e-4)


def test_normalised_features_have_zero_mean_and_unit_deviation_before_padding() -> None:
    waveform, num_samples = noise(16000, 4810)
    mel, num_frames = LogMel(LogMelConfig()).eval()(waveform, num_samples)
    assert num_frames.tolist() == [100, 30]
    for item, frames in zip(mel, num_frames, strict=True):
        torch.testing.assert_close(item[:frames].mean(0), torch.zeros(80), atol=1e-4, rtol=0)
        torch.testing.assert_close(item[:frames].std(0), torch.ones(80), atol=1e-4, rtol=0)
        assert (item[frames:] == 0).all()


# Always the same lengths: where two frames are by chance nearly alike, their deviation, by which
# features are divided, is rounding, and no bound holds.
@settings(deadline=None, max_examples=15, derandomize=True)
@given(
    st.lists(st.integers(0, 3000), min_size=2, max_size=4),
    st.sampled_from(["per_feature", "none"]),
)
def test_batch_of_one_equals_batch_of_many(lengths: list[int], normalization: str) -> None:
    mel = LogMel(LogMelConfig(normalization=normalization)).eval()
    waveform, num_samples = noise(*lengths)
    many, num_frames = mel(waveform, num_samples)
    assert many.shape == (len(lengths), max(lengths) // 160, 80)
    assert num_frames.tolist() == [length // 160 for length in lengths]
    for row, length in enumerate(lengths):
        one, _ = mel(waveform[row : row + 1, :length], num_samples[row : row + 1])
        torch.testing.assert_close(many[row, : length // 160], one[0], atol=1e-4, rtol=1e-4)


def test_one_frame_is_its_own_mean() -> None:
    mel, num_frames = LogMel(LogMelConfig()).eval()(*noise(200))
    assert num_frames.tolist() == [1] and (mel == 0).all()


def test_peak_scaling_divides_by_the_largest_sample_of_the_item() -> None:
    waveform, num_samples = noise(3200, 3200)
    waveform[0] *= 3
    scaled = LogMel(LogMelConfig(normalization="none", peak_scaling="item")).eval()
    plain = LogMel(LogMelConfig(normalization="none")).eval()
    peak = waveform.amax(dim=1, keepdim=True) + 1e-3
    torch.testing.assert_close(
        scaled(waveform, num_samples)[0],
        plain(waveform / peak, num_samples)[0],
        atol=1e-4,
        rtol=0,
    )
    quiet = waveform[1:], num_samples[1:]
    torch.testing.assert_close(scaled(waveform, num_samples)[0][1], scaled(*quiet)[0][0])


def test_dither_is_for_training_only() -> None:
    mel = LogMel(LogMelConfig(dither=0.01, normalization="none"))
    silence = torch.zeros(1, 1600), torch.tensor([1600])
    torch.testing.assert_close(
        mel.eval()(*silence)[0], torch.full((1, 10, 80), 2.0**-24).log(), atol=1e-5, rtol=0
    )
    assert mel.train()(*silence)[0].min() > np.log(2.0**-24) + 0.01


def test_bands_of_bins_are_blanked_in_training_only() -> None:
    settings = {"normalization": "none", "dither": 0.0, "mask_value": -3.0, "num_mels": 40}
    mel = LogMel(LogMelConfig(frequency_masks=1, mask_bins=12, **settings))
    waveform, num_samples = noise(*[1600] * 300)
    num_samples[1::2] = 800
    plain, num_frames = mel.eval()(waveform, num_samples)
    masked, _ = mel.train()(waveform, num_samples)
    valid = torch.arange(10) < num_frames[:, None]
    blanked = ((masked == -3.0) & valid[..., None]).sum(dim=1) == num_frames[:, None]  # (B, M)
    changed = blanked[:, None] & valid[..., None]
    assert torch.equal(masked, torch.where(changed, -3.0, plain))  # nothing else, not the padding
    widths = blanked.sum(dim=1)
    edges = (blanked[:, 1:] != blanked[:, :-1]).sum(dim=1) + blanked[:, 0].int() + blanked[:, -1]
    assert torch.equal(edges, torch.where(widths > 0, 2, 0))  # one band each
    # Every width and every place occurs, none much more often than others.
    assert set(widths.tolist()) == set(range(13))
    assert blanked.any(dim=0).all() and widths.float().mean() == pytest.approx(6, abs=0.8)
    several = LogMel(LogMelConfig(frequency_masks=2, mask_bins=12, **settings)).train()
    assert ((several(waveform, num_samples)[0] == -3.0)[:, 0].sum(dim=1) > 12).any()


def test_features_stay_float32_under_autocast() -> None:
    mel, batch = LogMel(LogMelConfig()).eval(), noise(3200)
    with torch.autocast("cpu", torch.bfloat16):
        cast, _ = mel(*batch)
    assert cast.dtype == torch.float32
    torch.testing.assert_close(cast, mel(*batch)[0])


def test_window_and_filter_bank_travel_with_the_weights() -> None:
    shapes = {
        name: tuple(tensor.shape) for name, tensor in LogMel(LogMelConfig()).state_dict().items()
    }
    assert shapes == {"window": (400,), "filter_bank": (80, 257)}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"normalization": "mean"}, "normalization is 'mean', but it may be per_feature or none"),
        ({"peak_scaling": "batch"}, "peak_scaling is 'batch', but it may be item or none"),
        ({"window_samples": 600}, "window_samples: is 600, but .* num_fft, 512"),
        ({"frequency_masks": -1}, "frequency_masks is -1, but it is at least 0"),
        ({"frequency_masks": 2, "num_mels": 20}, "mask_bins: is 24, but there are only 20 mel"),
        ({"hop_samples": 0}, "hop_samples is 0, but it is at least 1"),
        ({"sample_rate": 8000}, "sample_rate is 8000, but audio of any rate is heard at 16000"),
    ],
)
def test_impossible_settings_are_refused(setting: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LogMel(LogMelConfig(**setting))
