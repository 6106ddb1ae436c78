"""Feature stacking: what is known of a frame is its own eight log-mel frames."""

import pytest
import torch

from diarize.errors import ConfigError
from diarize.frontend.log_mel import LogMelConfig
from diarize.frontend.stacking import Stacking, StackingConfig


def stacking(**settings: int) -> Stacking:
    mel = LogMelConfig(num_mels=4, normalization="none")
    return Stacking(StackingConfig(mel=mel, width=3, **settings)).eval()


def test_eight_frames_stand_side_by_side() -> None:
    front_end = stacking()
    waveform = torch.randn(1, 16 * 160) * 0.1
    features, _ = front_end.mel(waveform, torch.tensor([16 * 160]))
    embedding, num_frames = front_end(waveform, torch.tensor([16 * 160]))
    side_by_side = torch.stack([features[0, :8].flatten(), features[0, 8:].flatten()])
    torch.testing.assert_close(embedding[0], side_by_side @ front_end.projection.weight.T)
    assert num_frames.tolist() == [2] and front_end.embedding_dim == 3
    assert front_end.grid.frame_shift == 0.08


def test_a_batch_is_as_its_items_and_its_clock_is_kept() -> None:
    front_end = stacking()
    lengths = [16_000, 9_000, 159, 1_281]
    waveform = torch.randn(4, 16_000) * 0.1
    embedding, num_frames = front_end(waveform, torch.tensor(lengths))
    assert num_frames.tolist() == [front_end.grid.num_frames(n) for n in lengths] == [13, 7, 0, 1]
    for row, length in enumerate(lengths):
        alone, _ = front_end(waveform[row : row + 1, :length], torch.tensor([length]))
        frames = int(num_frames[row])
        torch.testing.assert_close(embedding[row, :frames], alone[0, :frames])


def test_frames_know_nothing_of_their_neighbours() -> None:
    front_end = stacking(stacked=2)
    features = torch.randn(1, 10, 4)
    whole, _ = front_end.subsampling(features, torch.tensor([10]))
    part, num_frames = front_end.subsampling(features[:, 4:9], torch.tensor([5]))
    torch.testing.assert_close(part[0, :2], whole[0, 2:4])
    assert num_frames.tolist() == [3]
    assert torch.equal(front_end.encode(whole, num_frames), whole)


def test_what_cannot_be_stacked() -> None:
    with pytest.raises(ConfigError, match="stacked is 0, but it is at least 1"):
        stacking(stacked=0)
