import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from diarize import attention
from diarize.errors import ConfigError
from diarize.frontend import fastconformer, relative_attention
from diarize.frontend.fastconformer import (
    FastConformer,
    FastConformerConfig,
    Subsampling,
)


def tiny(**changes: object) -> FastConformer:
    """A front end of two narrow layers, ready to infer."""
    sizes = {"width": 16, "num_layers": 2, "num_heads": 2, "subsampling_channels": 4}
    return FastConformer(FastConformerConfig(**(sizes | changes))).eval()


def noise(*lengths: int) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of noise, padded with noise, too: what is padding must not matter."""
    return torch.randn(len(lengths), max(lengths)) * 0.1, torch.tensor(lengths)


def test_frames_are_eight_steps_of_ten_milliseconds() -> None:
    front_end = tiny()
    embedding, num_frames = front_end(*noise(16000))
    assert embedding.shape == (1, 13, 16) and num_frames.tolist() == [13]
    assert (front_end.grid.frame_shift, front_end.embedding_dim) == (0.08, 16)


@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.integers(0, 12000), min_size=2, max_size=4),
    st.sampled_from([1, 3, 128]),
    st.sampled_from([None, 2]),
)
def test_batch_of_one_equals_batch_of_many(
    lengths: list[int], block: int, context: int | None
) -> None:
    front_end = tiny(attention_context=context)
    waveform, num_samples = noise(*lengths)
    with torch.no_grad(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(relative_attention, "QUERY_BLOCK", block)
        many, num_frames = front_end(waveform, num_samples)
        assert many.shape[1] == front_end.grid.num_frames(max(lengths))
        assert many.isfinite().all()
        for row, length in enumerate(lengths):
            one, frames = front_end(waveform[row : row + 1, :length], num_samples[row : row + 1])
            assert frames.item() == num_frames[row] == front_end.grid.num_frames(length)
            torch.testing.assert_close(many[row, :frames], one[0], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("block", [3, 128])
def test_frames_attend_to_what_is_visible(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to two frames ahead: what lies farther changes nothing; a kernel of 1 hears none."""
    monkeypatch.setattr(attention, "BLOCK_ROWS", block)
    front_end = tiny(num_layers=1, conv_kernel=1)
    embedding = torch.randn(2, 20, 16)
    frames = torch.arange(20)
    visible = (frames <= frames[:, None] + 2)[None]
    num_frames = torch.tensor([20, 15])
    whole = front_end.encode(embedding, num_frames, visible)
    changed = embedding.clone()
    changed[:, 9:] = torch.randn(2, 11, 16)
    found = front_end.encode(changed, num_frames, visible)
    torch.testing.assert_close(found[:, :7], whole[:, :7])
    differs = (found - whole).abs().amax(dim=2)[:, 7:] > 1e-4
    assert differs[0].all() and differs[1, :8].all()
    everything = torch.ones(2, 20, 20).bool()
    torch.testing.assert_close(
        front_end.encode(embedding, num_frames, everything), front_end.encode(embedding, num_frames)
    )


def test_with_a_bounded_context_the_rest_of_a_window_changes_nothing() -> None:
    front_end = tiny(attention_context=4, conv_kernel=3)  # two layers reach 2 * (4 + 1) frames
    features = torch.randn(1, 400, 16)
    with torch.no_grad():
        whole = front_end.encode(features, torch.tensor([400]))
        part = front_end.encode(features[:, :200], torch.tensor([200]))
    torch.testing.assert_close(whole[0, :190], part[0, :190])
    assert not torch.allclose(whole[0, 199], part[0, 199])


def test_no_gradient_crosses_sessions() -> None:
    waveform, num_samples = noise(4000, 3000)
    waveform.requires_grad_()
    embedding, _ = tiny(conv_norm="layer_norm").train()(waveform, num_samples)
    (embedding[0] ** 3).sum().backward()
    assert waveform.grad is not None
    assert waveform.grad[0].abs().sum() > 0 and waveform.grad[1].abs().sum() == 0


def test_subsampling_is_the_same_in_both_memory_layouts(monkeypatch: pytest.MonkeyPatch) -> None:
    subsampling = Subsampling(num_mels=20, channels=4, width=6)
    batch = torch.randn(2, 37, 20), torch.tensor([37, 18])
    fast, num_frames = subsampling(*batch)
    monkeypatch.setattr(torch, "channels_last", torch.contiguous_format)
    plain, _ = subsampling(*batch)
    assert fast.shape == (2, 5, 6) and num_frames.tolist() == [5, 3]
    torch.testing.assert_close(fast, plain)


def test_offsets_fall_from_last_to_first_frame() -> None:
    sinusoids = fastconformer._offset_sinusoids(3, 4, torch.device("cpu"))
    drawn = [
        [f(o * w) for w in (1.0, 0.01) for f in (math.sin, math.cos)] for o in (2, 1, 0, -1, -2)
    ]
    torch.testing.assert_close(sinusoids, torch.tensor(drawn))


def test_layers_may_start_from_subsampled_features() -> None:
    front_end, batch = tiny(), noise(8000)
    with torch.no_grad():
        features, num_frames = front_end.subsampling(*front_end.mel(*batch))
        torch.testing.assert_close(front_end.encode(features, num_frames), front_end(*batch)[0])


@pytest.mark.parametrize("num_rows", [15, 16, 17, 33, 64, 71])
def test_subsampling_block_by_block_is_that_of_the_whole(
    num_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    subsampling = tiny().subsampling
    features = torch.randn(3, num_rows, 80)
    num_frames = torch.tensor([num_rows, num_rows - 9, 3])
    whole, counts = subsampling(features, num_frames)
    monkeypatch.setattr(fastconformer, "SUBSAMPLING_BLOCK", 16)
    with torch.no_grad():
        blocks, block_counts = subsampling(features, num_frames)
    torch.testing.assert_close(blocks, whole.detach())
    assert torch.equal(block_counts, counts)


def test_subsampling_learns_block_by_block_as_from_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With less kept: 600 frames of three items, of which blocks have 256."""
    subsampling = tiny().subsampling
    features, num_frames = torch.randn(3, 600, 80), torch.tensor([600, 591, 3])
    found, kept = [], []
    for numbers in (3 * 4 * 40 * 300, 3 * 4 * 40 * 300 - 1):
        monkeypatch.setattr(fastconformer, "SUBSAMPLING_NUMBERS", numbers)
        sizes: dict[int, int] = {}

        def keep(tensor: torch.Tensor, sizes: dict[int, int] = sizes) -> torch.Tensor:
            if tensor.untyped_storage().data_ptr() != features.untyped_storage().data_ptr():
                sizes[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            embedding, counts = subsampling(features, num_frames)
        taught = torch.autograd.grad((embedding**2).sum(), list(subsampling.parameters()))
        found.append((embedding.detach(), counts, *taught))
        kept.append(sum(sizes.values()))
    for whole, blocks in zip(*found, strict=True):
        torch.testing.assert_close(blocks, whole, rtol=1e-4, atol=1e-4)  # sums of another order
    assert kept[1] < kept[0] / 4


@pytest.mark.parametrize("conv_norm", ["batch_norm", "layer_norm"])
def test_all_parameters_learn(conv_norm: str) -> None:
    front_end = tiny(conv_norm=conv_norm).train()
    embedding, _ = front_end(*noise(8000, 8000))
    (embedding**3).sum().backward()
    assert [n for n, p in front_end.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_bfloat16_autocast_gives_nearly_the_same() -> None:
    front_end, batch = tiny(), noise(8000, 5000)
    with torch.no_grad():
        exact, _ = front_end(*batch)
        with torch.autocast("cpu", torch.bfloat16):
            rough, _ = front_end(*batch)
    torch.testing.assert_close(rough[0].float(), exact[0], atol=0.1, rtol=0.1)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"width": 18, "num_heads": 4}, "width: is 18, but .* num_heads, 4"),
        ({"width": 15, "num_heads": 3}, "width: is 15, but it must be even"),
        ({"conv_kernel": 8}, "conv_kernel: is 8, but it must be odd"),
        ({"attention_context": -1}, "attention_context is -1, but it is at least 0"),
        ({"conv_norm": "group"}, "conv_norm is 'group', but it may be batch_norm or layer_norm"),
        ({"num_heads": 0}, "num_heads is 0, but it is at least 1"),
        ({"subsampling_channels": 0}, "subsampling_channels is 0, but it is at least 1"),
        ({"dropout": 2.0}, "dropout is 2, but a share is from 0 to 1"),
        ({"input_dropout": 1.1}, "input_dropout is 1.1, but a share is from 0 to 1"),
    ],
)
def test_impossible_settings_are_refused(setting: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny(**setting)


def test_frames_differ_before_training() -> None:
    """Else training from scratch stays where every frame looks alike."""
    torch.manual_seed(0)
    front_end = FastConformer(FastConformerConfig(width=64, num_layers=6, subsampling_channels=16))
    with torch.inference_mode():
        embedding, _ = front_end.eval()(torch.randn(1, 48000), torch.tensor([48000]))
    assert embedding[0].var(0).mean() > 0.2 * embedding[0].square().mean()
