from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from diarize.encoder.transformer import Transformer, TransformerConfig, _angles, _rotation
from diarize.errors import ConfigError

POSITIONS = ["none", "sinusoidal", "rotary"]


def tiny(**changes: object) -> Transformer:
    """Two narrow layers, ready to infer."""
    sizes = {"width": 16, "inner": 24, "num_layers": 2, "num_heads": 2}
    return Transformer(TransformerConfig(**(sizes | changes))).eval()


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("positions", POSITIONS)
def test_padding_changes_nothing(pre_norm: bool, positions: str) -> None:
    encoder = tiny(pre_norm=pre_norm, positions=positions)
    embedding, num_frames = torch.randn(4, 9, 16), torch.tensor([9, 5, 1, 0])
    many = encoder(embedding, num_frames)
    assert many.shape == (4, 9, 16) and many.isfinite().all()
    for row, frames in enumerate(num_frames):
        one = encoder(embedding[row : row + 1, :frames], num_frames[row : row + 1])
        torch.testing.assert_close(many[row, :frames], one[0])


@pytest.mark.parametrize("num_layers", [0, 1, 2])
@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("positions", POSITIONS)
def test_frames_that_are_asked_for_are_those_of_all(
    num_layers: int, pre_norm: bool, positions: str
) -> None:
    encoder = tiny(num_layers=num_layers, pre_norm=pre_norm, positions=positions)
    embedding, num_frames = torch.randn(2, 9, 16), torch.tensor([9, 5])
    every = encoder(embedding, num_frames)
    torch.testing.assert_close(encoder(embedding, num_frames, slice(3, 7)), every[:, 3:7])
    torch.testing.assert_close(encoder(embedding, num_frames, slice(6, 20)), every[:, 6:])


def test_frames_attend_to_what_is_visible() -> None:
    embedding, num_frames = torch.randn(2, 9, 16), torch.tensor([9, 6])
    causal = tiny(causal=True)
    limited = tiny()
    limited.load_state_dict(causal.state_dict())
    earlier = torch.ones(9, 9).tril().bool()[None]
    torch.testing.assert_close(
        limited(embedding, num_frames, visible=earlier)[:, :6], causal(embedding, num_frames)[:, :6]
    )
    # Each item has limits of its own, and padding stays unseen.
    alone = torch.stack([torch.eye(9), torch.ones(9, 9)]).bool()
    found = limited(embedding, num_frames, visible=alone)
    torch.testing.assert_close(found[1, :6], limited(embedding[1:, :6], num_frames[1:])[0])
    one = limited(embedding[:1, 4:5], torch.tensor([1]))
    torch.testing.assert_close(found[0, 4:5], one[0])


def test_dropout_on_the_input_and_inside_is_for_training_only() -> None:
    embedding, num_frames = torch.randn(1, 5, 16), torch.tensor([5])
    deaf = tiny(input_dropout=1.0, attention_dropout=0.0, dropout=0.0)
    inner = tiny(inner_dropout=1.0, attention_dropout=0.0, dropout=0.0)
    without = tiny(attention_dropout=0.0, dropout=0.0)
    without.load_state_dict(inner.state_dict())
    for layer in without.layers:
        nn.init.zeros_(layer.project.weight)
    assert not torch.equal(deaf(embedding, num_frames), deaf(-embedding, num_frames))
    assert torch.equal(
        deaf.train()(embedding, num_frames), deaf(torch.zeros_like(embedding), num_frames)
    )
    assert not torch.equal(inner(embedding, num_frames), without(embedding, num_frames))
    assert torch.equal(inner.train()(embedding, num_frames), without(embedding, num_frames))


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_layer_is_the_one_of_torch(pre_norm: bool, activation: str) -> None:
    layer = tiny(pre_norm=pre_norm, activation=activation).layers[0]
    peer = nn.TransformerEncoderLayer(
        16, 2, 24, activation=activation, batch_first=True, norm_first=pre_norm
    ).eval()
    own = layer.state_dict()
    projections = [("in_proj_", ["query", "key", "value"]), ("out_proj.", ["output"])]
    state = {
        f"self_attn.{name}{kind}": torch.cat([own[f"{part}.{kind}"] for part in parts])
        for name, parts in projections
        for kind in ("weight", "bias")
    }
    pairs = [
        ("linear1", "expand"),
        ("linear2", "project"),
        ("norm1", "norm_attention"),
        ("norm2", "norm_feed_forward"),
    ]
    state |= {f"{a}.{k}": own[f"{b}.{k}"] for a, b in pairs for k in ("weight", "bias")}
    peer.load_state_dict(state)
    hidden = torch.randn(2, 7, 16)
    torch.testing.assert_close(layer(hidden, None, None), peer(hidden), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("positions", POSITIONS)
def test_first_scores_are_those_of_the_first_layer(
    pre_norm: bool, positions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder, compared = tiny(pre_norm=pre_norm, positions=positions), []
    attend = functional.scaled_dot_product_attention

    def listen(query: Tensor, key: Tensor, *rest: Any, **more: Any) -> Tensor:
        compared.append((query, key))
        return attend(query, key, *rest, **more)

    monkeypatch.setattr(functional, "scaled_dot_product_attention", listen)
    embedding = torch.randn(2, 7, 16)
    encoder(embedding, torch.tensor([7, 7]))
    query, key = compared[0]
    expected = torch.einsum("bhqd,bhkd->bhqk", query, key) / 8**0.5
    torch.testing.assert_close(encoder.first_scores(embedding), expected)


def test_without_positions_frames_are_a_set() -> None:
    embedding, num_frames, order = torch.randn(1, 9, 16), torch.tensor([9]), torch.randperm(9)
    encoder = tiny()
    torch.testing.assert_close(
        encoder(embedding[:, order], num_frames), encoder(embedding, num_frames)[:, order]
    )


@pytest.mark.parametrize("positions", ["sinusoidal", "rotary"])
def test_with_positions_order_matters(positions: str) -> None:
    embedding, num_frames = torch.randn(1, 9, 16), torch.tensor([9])
    encoder = tiny(positions=positions)
    backwards = encoder(embedding.flip(1), num_frames).flip(1)
    assert not torch.allclose(backwards, encoder(embedding, num_frames), atol=1e-2)


def test_rotary_positions_see_distances_only() -> None:
    """Two frames hear the same of each other at the start and after five others."""
    encoder = tiny(positions="rotary", num_layers=1)
    pair, num_frames = torch.randn(1, 2, 16), torch.tensor([2])
    late = torch.cat([torch.randn(1, 5, 16), pair], dim=1)
    layer = encoder.layers[0]
    mask = torch.tensor([-1e4] * 5 + [0.0] * 2)[None, None, None, :]
    rotation = _rotation(_angles(7, 8, torch.device("cpu")))
    shifted = layer(late, mask, rotation)[:, 5:]
    torch.testing.assert_close(shifted, encoder(pair, num_frames), atol=1e-5, rtol=1e-5)


def test_dropout_is_for_training_only() -> None:
    embedding, num_frames = torch.randn(1, 9, 16), torch.tensor([9])
    encoder = tiny()
    torch.testing.assert_close(encoder(embedding, num_frames), encoder(embedding, num_frames))
    encoder.train()
    assert not torch.allclose(encoder(embedding, num_frames), encoder(embedding, num_frames))


@pytest.mark.parametrize("positions", POSITIONS)
def test_bfloat16_autocast_gives_nearly_the_same(positions: str) -> None:
    embedding, num_frames = torch.randn(2, 9, 16), torch.tensor([9, 6])
    encoder = tiny(positions=positions)
    with torch.autocast("cpu", torch.bfloat16):
        rough = encoder(embedding, num_frames)
    exact = encoder(embedding, num_frames)
    torch.testing.assert_close(rough[0].float(), exact[0], atol=0.15, rtol=0.1)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"num_heads": 3}, "width: is 16, but .* num_heads, 3"),
        (
            {"positions": "learned"},
            "positions is 'learned', but it may be none, sinusoidal or rotary",
        ),
        ({"activation": "swish"}, "activation is 'swish', but it may be relu or gelu"),
        ({"positions": "rotary", "num_heads": 16}, "positions: is 'rotary', but 16 / 16 channels"),
        ({"num_heads": 0}, "num_heads is 0, but it is at least 1"),
        ({"dropout": 1.5}, "dropout is 1.5, but a share is from 0 to 1"),
        ({"attention_dropout": -0.1}, "attention_dropout is -0.1, but a share is from 0 to 1"),
    ],
)
def test_impossible_settings_are_refused(setting: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny(**setting)
