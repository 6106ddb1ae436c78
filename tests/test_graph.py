"""Networks run as they are to be written: the same answers, whatever is padded."""

from pathlib import Path

import pytest
import torch
from test_log_mel import noise

from diarize.attention import MASKED
from diarize.config import load_config
from diarize.encoder.sortformer import by_arrival
from diarize.frontend.log_mel import LogMel, LogMelConfig
from diarize.frontend.relative_attention import RelativeAttention
from diarize.graph import as_written, full_precision, is_written, taken
from diarize.model import Diarizer
from diarize.module import TrainingConfig

TINY = Path(__file__).parents[1] / "conf" / "tiny.yaml"


def test_nothing_is_written_unless_it_is_asked_for() -> None:
    assert not is_written()
    with pytest.raises(KeyError), as_written():
        assert is_written()
        with torch.autocast("cpu"), full_precision("cpu"):
            assert torch.is_autocast_enabled("cpu")  # a graph has none to switch off
        raise KeyError
    assert not is_written()
    with torch.autocast("cpu"), full_precision("cpu"):
        assert not torch.is_autocast_enabled("cpu")


def test_what_lies_at_places() -> None:
    tensor = torch.arange(24).view(2, 4, 3)
    index = torch.tensor([[0, 3, 3], [1, 0, 2]])
    assert torch.equal(taken(tensor, 1, index), tensor[:, index])
    assert torch.equal(taken(tensor, 0, torch.tensor([1])), tensor[1:])


@torch.no_grad()
@pytest.mark.parametrize("context", [None, 0, 1, 30, 70])
@pytest.mark.parametrize("num_steps", [1, 2, 63, 64, 65, 150])
def test_attention_by_distance(num_steps: int, context: int | None) -> None:
    layer = RelativeAttention(8, 2, 0.0, context)
    for bias in (layer.content_bias, layer.position_bias):
        torch.nn.init.normal_(bias)
    hidden, offsets = torch.randn(2, num_steps, 8), torch.randn(2 * num_steps - 1, 8)
    counts = torch.tensor([num_steps, num_steps // 2 + 1])
    mask = torch.where(torch.arange(num_steps) < counts[:, None], 0.0, MASKED)[:, None, None]
    wanted = layer(hidden, offsets, mask)
    with as_written():
        found = layer(hidden, offsets, mask)
    for row, count in enumerate(counts):
        torch.testing.assert_close(found[row, :count], wanted[row, :count])


@torch.no_grad()
@pytest.mark.parametrize("normalization", ["none", "per_feature"])
@pytest.mark.parametrize("scaling", ["none", "item"])
def test_energies(normalization: str, scaling: str) -> None:
    mel = LogMel(LogMelConfig(normalization=normalization, peak_scaling=scaling)).eval()
    waveform, num_samples = noise(6000, 4100)
    wanted, num_frames = mel(waveform, num_samples)
    with as_written():
        found, counts = mel(waveform, num_samples)
    assert torch.equal(counts, num_frames)
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("lengths", [[40000, 40000], [40000, 17000], [1280], [130000, 900]])
def test_a_whole_model(lengths: list[int]) -> None:
    diarizer = Diarizer(load_config(TrainingConfig, [TINY]).diarizer).eval()
    waveform, num_samples = noise(*lengths)
    wanted, num_frames = diarizer(waveform, num_samples)
    with as_written():
        found, _ = diarizer(waveform, num_samples)
    for row, count in enumerate(num_frames):
        torch.testing.assert_close(found[row, :count], wanted[row, :count], atol=1e-4, rtol=1e-4)


def test_who_arrives_together_stays_in_place() -> None:
    logits = torch.tensor([[[-1.0, 2.0, 2.0, -1.0], [1.0, -1.0, 3.0, -1.0]]])
    assert by_arrival(logits, torch.tensor([2]))[0].tolist() == [
        [2.0, 2.0, -1.0, -1.0],
        [-1.0, 3.0, 1.0, -1.0],
    ]
