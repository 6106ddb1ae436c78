"""More slots: what known ones say is kept, and new ones say something else."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diarize.errors import ConfigError
from diarize.slots import more_slots


@given(st.integers(1, 8), st.integers(0, 8), st.integers(16, 40))
def test_new_rows_are_orthogonal_and_of_like_length(known: int, new: int, width: int) -> None:
    rows = torch.randn(known, width) * torch.linspace(0.5, 2.0, known)[:, None]
    grown = more_slots(rows, known + new)
    assert grown.shape == (known + new, width) and grown.dtype == rows.dtype
    assert torch.equal(grown[:known], rows)
    length = rows.norm(dim=1).mean()
    gram = grown[known:] @ grown.T / length**2
    expected = torch.cat([torch.zeros(new, known), torch.eye(new)], dim=1)
    torch.testing.assert_close(gram, expected, atol=1e-5, rtol=0)


def test_rows_of_known_slots_may_be_alike() -> None:
    """What they span is less than their number; what is new is orthogonal still."""
    rows = torch.ones(3, 6)
    new = more_slots(rows, 5)[3:]
    torch.testing.assert_close(new @ rows.T, torch.zeros(2, 3), atol=1e-5, rtol=0)


def test_new_numbers_are_the_mean() -> None:
    assert more_slots(torch.tensor([1.0, 3.0]), 4).tolist() == [1.0, 3.0, 2.0, 2.0]


def test_more_slots_than_numbers() -> None:
    with pytest.raises(ConfigError, match="num_slots is 9, but rows of 8 numbers are orthogonal"):
        more_slots(torch.randn(4, 8), 9)
