import pytest
import torch

from diarize.encoder.set_transformer import SetTransformer, SetTransformerConfig
from diarize.errors import ConfigError

SIZES = {"width": 16, "inner": 24, "num_layers": 2, "num_heads": 2, "num_points": 5}


def tiny(**changes: object) -> SetTransformer:
    """Two narrow layers, ready to infer."""
    torch.manual_seed(0)
    return SetTransformer(SetTransformerConfig(**(SIZES | changes))).eval()


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("positions", ["none", "sinusoidal"])
def test_padding_changes_nothing(pre_norm: bool, positions: str) -> None:
    encoder = tiny(pre_norm=pre_norm, positions=positions)
    embedding, num_frames = torch.randn(4, 9, 16), torch.tensor([9, 5, 1, 0])
    many = encoder(embedding, num_frames)
    assert many.shape == (4, 9, 16) and many.isfinite().all()
    torch.testing.assert_close(encoder(embedding, num_frames, slice(3, 7)), many[:, 3:7])
    for row, frames in enumerate(num_frames):
        one = encoder(embedding[row : row + 1, :frames], num_frames[row : row + 1])
        torch.testing.assert_close(many[row, :frames], one[0])


@pytest.mark.parametrize("pre_norm", [False, True])
def test_a_layer_is_two_attention_blocks(pre_norm: bool) -> None:
    layer = tiny(pre_norm=pre_norm).layers[0]
    hidden = torch.randn(1, 7, 16)

    def attended(block: torch.nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """MAB(X, Y) of arXiv:1810.00825, eq. 6 and 7, by torch's own attention."""
        peer = torch.nn.MultiheadAttention(16, 2, batch_first=True)
        parts = [block.query, block.key, block.value]
        peer.in_proj_weight.data = torch.cat([part.weight for part in parts])
        peer.in_proj_bias.data = torch.cat([part.bias for part in parts])
        peer.out_proj.load_state_dict(block.output.state_dict())
        if pre_norm:
            asking, answering = block.norm_attention(x), block.norm_attention(y)
            x = x + peer(asking, answering, answering)[0]
            return x + block.project(block.expand(block.norm_feed_forward(x)).relu())
        x = block.norm_attention(x + peer(x, y, y)[0])
        return block.norm_feed_forward(x + block.project(block.expand(x).relu()))

    summary = attended(layer.gathering, layer.points[None], hidden)
    assert summary.shape == (1, 5, 16)
    expected = attended(layer.telling, hidden, summary)
    torch.testing.assert_close(layer(hidden, None), expected, atol=1e-5, rtol=1e-5)


def test_settings_that_mean_nothing_are_refused() -> None:
    for changes in ({"causal": True}, {"positions": "rotary"}):
        with pytest.raises(ConfigError, match="but points stand for the whole session at once"):
            tiny(**changes)
    with pytest.raises(ConfigError, match="num_points is 0"):
        tiny(num_points=0)
    with pytest.raises(
        ConfigError, match="width: is 16, but it must be a multiple of num_heads, 3"
    ):
        tiny(num_heads=3)
    with pytest.raises(ConfigError, match="positions: is 'sinusoidal', but 15 / 3 channels"):
        tiny(width=15, num_heads=3, positions="sinusoidal")
