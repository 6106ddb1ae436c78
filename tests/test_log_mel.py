import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diarize.errors import ConfigError
from diarize.frontend.log_mel import DEVIATION_FLOOR, LogMel, LogMelConfig, normalized_so_far


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


def with_prior(**settings: object) -> LogMel:
    """Log-mel whose training has heard ten seconds, unlike what is heard in tests."""
    mel = LogMel(LogMelConfig(**{"prior_seconds": 0.5, "dither": 0.0, "num_mels": 8, **settings}))
    source = torch.Generator().manual_seed(5)
    mel.hear(torch.randn(1, 160000, generator=source) * 0.3, torch.tensor([160000]))
    return mel


def test_each_frame_is_normalised_by_those_until_it_and_the_prior() -> None:
    """In two passes for every frame, by the definition."""
    mel, (waveform, num_samples) = with_prior(), noise(16000, 4810)
    waveform[0, 8000:] *= 0.05  # what is louder before is no reason to hear the rest as silence
    energies, num_frames = LogMel(LogMelConfig(normalization="none", num_mels=8)).eval()(
        waveform, num_samples
    )
    found, _ = mel.eval()(waveform, num_samples, so_far=True)
    assert mel.heard[0].tolist() == [1000] * 8
    (_, expected_mean, expected_variance), prior = mel.heard.double().numpy(), 50
    for item, rows, frames in zip(found, energies.double().numpy(), num_frames, strict=True):
        for frame in range(frames):
            until, count = rows[: frame + 1], prior + frame + 1
            mean = (prior * expected_mean + until.sum(0)) / count
            squares = prior * (expected_variance + (expected_mean - mean) ** 2)
            squares = squares + ((until - mean) ** 2).sum(0)
            expected = (rows[frame] - mean) / (np.sqrt(squares / (count - 1)) + DEVIATION_FLOOR)
            np.testing.assert_allclose(item[frame], expected, atol=2e-4)
        assert (item[frames:] == 0).all()


def test_the_last_frame_is_normalised_as_in_the_whole_recording() -> None:
    """If training has heard nothing yet: then a prior counts for nothing."""
    mel = LogMel(LogMelConfig(prior_seconds=5.0)).eval()
    so_far, whole = [mel(*noise(16000), so_far=flag)[0][0] for flag in (True, False)]
    torch.testing.assert_close(so_far[-1], whole[-1], atol=1e-4, rtol=0)
    assert (so_far[0] == 0).all() and (so_far - whole).abs().max() > 0.5


@pytest.mark.parametrize("size", [1, 3, 7, 40])
def test_frames_do_not_depend_on_how_a_recording_is_cut(size: int) -> None:
    source = torch.Generator().manual_seed(0)
    energies = torch.randn(2, 40, 5, generator=source) * 4 - 8
    mean, before = torch.full((5,), -7.0), torch.tensor([3.0, 0.0, 30.0]).double()
    before = before[:, None].expand(3, 5)
    whole, sums = normalized_so_far(energies, mean, before)
    parts, heard = [], before
    for piece in energies.split(size, dim=1):
        part, heard = normalized_so_far(piece, mean, heard)
        parts.append(part)
    assert torch.equal(torch.cat(parts, dim=1), whole) and torch.equal(heard, sums)


def test_training_notes_what_it_hears() -> None:
    """Exactly, whatever the batches; padding and blanked bins are not heard, nor what is judged."""
    settings = LogMelConfig(prior_seconds=5.0, dither=0.0, frequency_masks=1, num_mels=32)
    mel = LogMel(settings)
    batches = [noise(3200, 1700), noise(160, 0), noise(100), noise(48000)]
    batches[-1] = (batches[-1][0] * 30, batches[-1][1])
    for batch in batches:
        mel.train()(*batch)
        mel.eval()(*batch)
        mel(*batch, so_far=True)
    plain = LogMel(LogMelConfig(normalization="none", num_mels=32)).eval()
    rows = []
    for batch in batches:
        rows += [item[:n] for item, n in zip(*plain(*batch), strict=True)]
    frames = torch.cat(rows).double()
    count, mean, variance = mel.heard.double()
    assert count.tolist() == [331] * 32 == [len(frames)] * 32
    torch.testing.assert_close(mean, frames.mean(0), atol=1e-4, rtol=0)
    torch.testing.assert_close(variance, frames.var(0, correction=0), atol=0, rtol=1e-4)
    again = LogMel(settings)
    for batch in batches:
        again.hear(*batch)
    assert torch.equal(again.heard, mel.heard)


def test_processes_that_train_together_note_what_all_hear(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = noise(3200), noise(16000, 8000)
    alone, other = with_prior(), with_prior()
    (sums,) = torch.zeros(1, 3, 8)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", sums.copy_)
    alone.hear(*second)  # whose sums the other process adds to its own
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda own: own.add_(sums))
    other.hear(*first)
    monkeypatch.undo()
    together = with_prior()
    both = torch.zeros(3, 16000)
    both[0, :3200], both[1:] = first[0][0], second[0]
    together.hear(both, torch.tensor([3200, 16000, 8000]))
    torch.testing.assert_close(other.heard, together.heard, atol=1e-4, rtol=1e-5)


def test_after_silence_speech_is_no_louder_than_the_prior_allows() -> None:
    """A minute of zeros, then noise: features stay in what a network can bear."""
    mel, (waveform, num_samples) = with_prior().eval(), noise(16000 * 62)
    waveform[0, : 16000 * 60] = 0
    features, _ = mel(waveform, num_samples, so_far=True)
    assert features.isfinite().all() and features.abs().max() < 20


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
    assert set(with_prior().state_dict()) == {*shapes, "heard"}
    plain = LogMel(LogMelConfig(normalization="none", prior_seconds=5.0))  # needs none
    assert set(plain.state_dict()) == set(shapes)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"normalization": "mean"}, "normalization is 'mean', but it may be per_feature or none"),
        ({"peak_scaling": "batch"}, "peak_scaling is 'batch', but it may be item or none"),
        ({"window_samples": 600}, "window_samples: is 600, but .* num_fft, 512"),
        ({"frequency_masks": -1}, "frequency_masks is -1, but it is at least 0"),
        ({"frequency_masks": 2, "num_mels": 20}, "mask_bins: is 24, but there are only 20 mel"),
        ({"prior_seconds": -1.0}, "prior_seconds is -1, but it is at least 0"),
        ({"hop_samples": 0}, "hop_samples is 0, but it is at least 1"),
        ({"sample_rate": 8000}, "sample_rate is 8000, but audio of any rate is heard at 16000"),
    ],
)
def test_impossible_settings_are_refused(setting: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LogMel(LogMelConfig(**setting))
