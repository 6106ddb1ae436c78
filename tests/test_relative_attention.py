"""Attention that scores how far apart frames lie, against its formula."""

import math

import pytest
import torch

from diarize import attention, local_attention
from diarize.frontend import relative_attention
from diarize.frontend.relative_attention import RelativeAttention


@pytest.mark.parametrize("on_cpu", [False, True])
@pytest.mark.parametrize("learning", [False, True])
@pytest.mark.parametrize("context", [None, 0, 1, 3, 50])
@pytest.mark.parametrize("block", [1, 2, 5, 128])
def test_attention_scores_content_and_distance(
    block: int, context: int | None, learning: bool, on_cpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relative_attention, "QUERY_BLOCK", block)
    monkeypatch.setattr(attention, "BLOCK_ROWS", block)
    monkeypatch.setattr(local_attention, "BLOCK_ROWS", block)
    if not on_cpu:  # the ways of a GPU, which a CPU can go as well
        monkeypatch.setattr(torch.Tensor, "is_cpu", False)
    num_steps, width, heads = 7, 8, 2
    mask = torch.tensor([0.0] * 5 + [attention.MASKED] * 2).view(1, 1, 1, num_steps)
    layer = RelativeAttention(width, heads, 0.0, context)
    for bias in (layer.content_bias, layer.position_bias):
        torch.nn.init.normal_(bias)
    hidden, offsets = torch.randn(1, num_steps, width), torch.randn(2 * num_steps - 1, width)

    def split(rows: torch.Tensor) -> torch.Tensor:
        return rows.view(-1, heads, width // heads)

    query, key = split(layer.query(hidden[0])), split(layer.key(hidden[0]))
    value, position = split(layer.value(hidden[0])), split(layer.position(offsets))
    expected = torch.zeros(num_steps, heads, width // heads)
    for head in range(heads):
        for i in range(5):  # the rest is padding, and has no meaning
            near = [j for j in range(5) if context is None or abs(i - j) <= context]
            scores = [
                (query[i, head] + layer.content_bias[head]) @ key[j, head]
                + (query[i, head] + layer.position_bias[head])
                @ position[num_steps - 1 - (i - j), head]
                for j in near
            ]
            weights = (torch.stack(scores) / math.sqrt(width / heads)).softmax(0)
            expected[i, head] = weights @ value[near, head]
    with torch.set_grad_enabled(learning):
        found = layer(hidden, offsets, mask)
    torch.testing.assert_close(found[0, :5], layer.output(expected.flatten(1))[:5])


def test_dropout_is_for_training_only() -> None:
    layer, offsets = RelativeAttention(8, 2, 0.5), torch.randn(39, 8)
    hidden = torch.randn(1, 20, 8)
    first, second = (layer(hidden, offsets, None) for _ in range(2))
    assert not torch.allclose(first, second)
    layer.eval()
    torch.testing.assert_close(layer(hidden, offsets, None), layer(hidden, offsets, None))
