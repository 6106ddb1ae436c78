"""What each encoder does to frames in another order (Bloem-Reddy and Teh, arXiv:1901.06082).

An encoder is *equivariant* if reordering its frames reorders what it says of them and changes
nothing else; what is *invariant* does not change at all. SortFormer is neither: order of arrival is
a property of the order of frames.
"""

import pytest
import torch
from torch import Tensor, nn

from diarize.encoder.set_transformer import SetTransformer, SetTransformerConfig
from diarize.encoder.sortformer import SortFormer, SortFormerConfig
from diarize.encoder.transformer import Transformer, TransformerConfig

SIZES = {"width": 16, "inner": 24, "num_heads": 2}


def reordered(encoder: nn.Module, embedding: Tensor) -> tuple[Tensor, Tensor]:
    """What is said of frames in another order, put back in theirs, and what is said of theirs."""
    order = torch.randperm(embedding.shape[1])
    num_frames = torch.full((len(embedding),), embedding.shape[1])
    found = encoder.eval()(embedding[:, order], num_frames)
    return found[:, order.argsort()], encoder(embedding, num_frames)


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("positions", ["none", "sinusoidal", "rotary"])
def test_frames_without_positions_are_a_set(pre_norm: bool, positions: str) -> None:
    torch.manual_seed(0)
    config = TransformerConfig(**SIZES, num_layers=2, pre_norm=pre_norm, positions=positions)
    found, expected = reordered(Transformer(config), torch.randn(2, 11, 16))
    assert torch.allclose(found, expected, atol=1e-5) == (positions == "none")


@pytest.mark.parametrize("positions", ["none", "sinusoidal"])
def test_inducing_points_do_not_look_at_places(positions: str) -> None:
    torch.manual_seed(0)
    config = SetTransformerConfig(**SIZES, num_layers=2, num_points=4, positions=positions)
    found, expected = reordered(SetTransformer(config), torch.randn(2, 11, 16))
    assert torch.allclose(found, expected, atol=1e-5) == (positions == "none")


def test_a_causal_encoder_is_not_equivariant() -> None:
    torch.manual_seed(0)
    config = TransformerConfig(**SIZES, num_layers=2, causal=True)
    found, expected = reordered(Transformer(config), torch.randn(2, 11, 16))
    assert not torch.allclose(found, expected, atol=1e-2)


def test_arrival_tells_the_layers_above_an_order_of_frames() -> None:
    torch.manual_seed(0)
    embedding = torch.randn(4, 11, 16)
    for gate, same in ((0.0, True), (1.0, False)):
        config = SortFormerConfig(**SIZES, num_layers=3, gate=gate)
        found, expected = reordered(SortFormer(config, 3), embedding)
        assert torch.allclose(found, expected, atol=1e-5) == same
