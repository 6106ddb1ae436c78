"""Rows as embeddings: as they are or normalised, in a batch as alone."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from diarize.config import load_config
from diarize.errors import ConfigError
from diarize.frontend.features import Features, FeaturesConfig
from diarize.model import Diarizer, DiarizerConfig
from diarize.recording import AUDIO, Kind


def front_end(normalization: str = "none", dim: int = 3) -> Features:
    return Features(FeaturesConfig(dim, 0.08, normalization))


def samples(*rows: int) -> Tensor:
    return torch.tensor(rows) * 1280


def test_its_clock_and_width_are_those_of_the_rows() -> None:
    heard = front_end()
    assert heard.hears == Kind.of_features(3, 0.08) and heard.embedding_dim == 3
    assert heard.grid.frame_shift == 0.08 and heard.grid.step == heard.grid.hop == 1280


def test_rows_are_embeddings_and_padding_is_zero() -> None:
    signal = torch.randn(2, 5, 3)
    embedding, num_frames = front_end()(signal, samples(5, 2))
    assert num_frames.tolist() == [5, 2]
    assert torch.equal(embedding[0], signal[0]) and torch.equal(embedding[1, :2], signal[1, :2])
    assert not embedding[1, 2:].any()


def test_normalised_rows_have_mean_0_and_deviation_1_over_their_item() -> None:
    signal = torch.randn(2, 50, 3) * torch.tensor([1e-3, 1.0, 50.0]) + torch.tensor(
        [0.0, 9.0, -1e3]
    )
    embedding, _ = front_end("per_feature")(signal, samples(50, 20))
    for row, count in enumerate((50, 20)):
        valid = embedding[row, :count]
        torch.testing.assert_close(valid.mean(dim=0), torch.zeros(3), atol=1e-4, rtol=0)
        torch.testing.assert_close(valid.std(dim=0, correction=0), torch.ones(3), atol=1e-4, rtol=0)
        assert not embedding[row, count:].any()


@pytest.mark.parametrize("value", [0.0, 0.1, -1e4, 1e30])
def test_constant_numbers_are_zero_and_not_their_rounding(value: float) -> None:
    signal = torch.full((1, 1001, 2), value)
    signal[..., 1] = torch.arange(1001)
    embedding, _ = front_end("per_feature", 2)(signal, samples(1001))
    assert not embedding[..., 0].any()
    assert embedding.isfinite().all() and embedding[0, -1, 1] > 1.7


def test_a_single_row_is_constant() -> None:
    embedding, _ = front_end("per_feature")(torch.randn(1, 1, 3), samples(1))
    assert not embedding.any()


@settings(deadline=None, max_examples=30)
@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    normalization=st.sampled_from(("none", "per_feature")),
)
def test_a_batch_is_as_its_items(counts: list[int], normalization: str) -> None:
    signal = torch.randn(len(counts), max(counts), 3)  # padding is noise, and not to be heard
    embedding, num_frames = front_end(normalization)(signal, samples(*counts))
    assert num_frames.tolist() == counts
    for row, count in enumerate(counts):
        alone, _ = front_end(normalization)(signal[row : row + 1, :count], samples(count))
        torch.testing.assert_close(embedding[row, :count], alone[0])


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "FeaturesConfig: dim is not set, but has no default. Set it."),
        ({"dim": 4}, "FeaturesConfig: frame_shift is not set, but has no default. Set it."),
        ({"dim": 0, "frame_shift": 0.1}, "FeaturesConfig: dim is 0, but it is at least 1. Raise"),
        ({"dim": 4, "frame_shift": 0}, "frame_shift is 0 s, but it may be from 0.01 s to 1e+09"),
        ({"dim": 4, "frame_shift": float("inf")}, "frame_shift is inf s, but it may be from"),
        ({"dim": 4, "frame_shift": float("nan")}, "frame_shift is nan s, but it may be from"),
        (
            {"dim": 4, "frame_shift": 0.1, "normalization": "session"},
            "normalization is 'session', but it may be per_feature or none. Choose one.",
        ),
        ({"dim": 4, "frame_shift": 0.1, "width": 3}, "width is not a setting of FeaturesConfig."),
    ],
)
def test_settings_that_cannot_be(values: dict, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(FeaturesConfig, values=values)
    assert told in str(caught.value)


def diarizer(**settings: int) -> Diarizer:
    features = {"_target_": "diarize.frontend.features.Features", "dim": 3, "frame_shift": 0.08}
    encoder = {"width": 16, "inner": 16, "num_layers": 1, "num_heads": 2}
    encoder["_target_"] = "diarize.encoder.transformer.Transformer"
    values = {"front_end": features, "encoder": encoder, **settings}
    return Diarizer(load_config(DiarizerConfig, values=values)).eval()


def test_a_diarizer_hears_features_and_says_so() -> None:
    model = diarizer()
    assert model.hears == Kind.of_features(3, 0.08) and model.grid.frame_shift == 0.08
    assert model.config.front_end == {
        "_target_": "diarize.frontend.features.Features",
        "dim": 3,
        "frame_shift": 0.08,
        "normalization": "none",
    }
    signal = torch.randn(2, 20, 3)
    signal[1, 12:] = 0.0
    logits, num_frames = model(signal, samples(20, 12))
    assert logits.shape == (2, 20, 4) and num_frames.tolist() == [20, 12]
    alone, _ = model(signal[1:, :12], samples(12))
    torch.testing.assert_close(logits[1, :12], alone[0], atol=1e-5, rtol=1e-4)


def test_a_row_is_one_frame_and_none_finer() -> None:
    with pytest.raises(ConfigError, match=r"upsampling: is 2, but a frame .* is 1 steps of 1280"):
        diarizer(upsampling=2)


def test_other_models_hear_audio() -> None:
    assert Diarizer.hears.fget(type("Other", (), {"front_end": None})()) == AUDIO
