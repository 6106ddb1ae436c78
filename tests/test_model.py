from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf
from torch import nn

from diarize.config import load_config
from diarize.encoder.transformer import TransformerConfig
from diarize.errors import ConfigError
from diarize.frames import FrameGrid
from diarize.frontend.fastconformer import FastConformerConfig
from diarize.model import Diarizer, DiarizerConfig
from diarize.turns import Turn

PUBLISHED_PARAMETERS = 123_219_976
"""SortFormer v1, as counted in its checkpoint."""

UNUSED_PARAMETERS = 384 * 4 + 4
"""Of those, a layer that the published model carries and never runs."""


def config_of(root: Path, name: str) -> DiarizerConfig:
    """The model that a file under conf/ describes."""
    values = OmegaConf.to_container(OmegaConf.load(root / "conf" / f"{name}.yaml"))
    assert isinstance(values, dict)
    return load_config(DiarizerConfig, values=values["diarizer"])


@pytest.fixture
def tiny(root: Path) -> Diarizer:
    return Diarizer(config_of(root, "tiny")).eval()


def count(config: DiarizerConfig) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in Diarizer(config).parameters())


def test_sizes_are_what_their_files_say(root: Path) -> None:
    assert count(config_of(root, "tiny")) < 1_000_000
    assert count(config_of(root, "small")) <= 4_100_000  # 16 MiB in float32
    assert count(config_of(root, "base")) == PUBLISHED_PARAMETERS - UNUSED_PARAMETERS


def test_the_published_size_is_the_default(root: Path) -> None:
    base = config_of(root, "base")
    settings = [dict(node) for node in (base.front_end, base.encoder)]
    for node in settings:
        del node["_target_"]
    assert load_config(FastConformerConfig, values=settings[0]) == FastConformerConfig()
    assert load_config(TransformerConfig, values=settings[1]) == TransformerConfig()
    assert (base.num_slots, base.head_dropout) == (4, 0.5)


def test_logits_stand_on_the_grid(tiny: Diarizer) -> None:
    logits, num_frames = tiny(torch.randn(2, 16000), torch.tensor([16000, 9000]))
    assert logits.shape == (2, 13, 4) and tiny.num_slots == 4
    assert num_frames.tolist() == [tiny.grid.num_frames(n) for n in (16000, 9000)]


def test_batch_of_one_equals_batch_of_many_and_padding_changes_nothing(tiny: Diarizer) -> None:
    lengths = [20000, 13333, 1000, 80]
    waveform, num_samples = torch.randn(4, 20000) * 0.1, torch.tensor(lengths)
    with torch.no_grad():
        many, num_frames = tiny(waveform, num_samples)
        for row, length in enumerate(lengths):
            one, _ = tiny(waveform[row : row + 1, :length], num_samples[row : row + 1])
            torch.testing.assert_close(many[row, : num_frames[row]], one[0], atol=1e-5, rtol=1e-4)


def test_posterior_is_silent_in_padding(tiny: Diarizer) -> None:
    posterior, num_frames = tiny.posterior(torch.randn(2, 16000), torch.tensor([16000, 8000]))
    assert not posterior.requires_grad
    assert num_frames.tolist() == [13, 7]
    assert (posterior[0] > 0).all() and (posterior[1, :7] > 0).all()
    assert (posterior[1, 7:] == 0).all()


def test_embedding_and_classification_make_the_logits(tiny: Diarizer) -> None:
    batch = torch.randn(2, 16000), torch.tensor([16000, 8000])
    with torch.no_grad():
        embedding, num_frames = tiny.embed(*batch)
        assert embedding.shape == (2, 13, tiny.front_end.embedding_dim)
        torch.testing.assert_close(tiny.classify(embedding, num_frames), tiny(*batch)[0])


def test_settings_are_kept_in_full(tiny: Diarizer) -> None:
    assert tiny.config.front_end["mel"]["num_mels"] == 80
    assert tiny.config.encoder["activation"] == "relu"
    again = Diarizer(load_config(DiarizerConfig, values=vars(tiny.config)))
    assert again.config == tiny.config
    again.load_state_dict(tiny.state_dict())


def test_a_front_end_made_elsewhere_is_used(root: Path) -> None:
    class Loudness(nn.Module):
        grid, embedding_dim = FrameGrid(16000, 1600), 1

        def forward(self, waveform: torch.Tensor, num_samples: torch.Tensor) -> tuple:
            return waveform.unfold(1, 1600, 1600).std(2, keepdim=True), num_samples // 1600

    front_end = Loudness()
    diarizer = Diarizer(config_of(root, "tiny"), front_end=front_end)
    logits, num_frames = diarizer(torch.randn(1, 16000), torch.tensor([16000]))
    assert logits.shape == (1, 10, 4) and num_frames.tolist() == [10]
    assert diarizer.grid.frame_shift == 0.1


def test_called_on_a_path_it_gives_turns(tiny: Diarizer, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "talk.wav", np.random.randn(16000) * 0.1, 16000)
    nn.init.constant_(tiny.head.output.bias, 100.0)
    for path in (tmp_path / "talk.wav", str(tmp_path / "talk.wav")):
        turns = tiny(path)
        assert len(turns) == 4
        assert all(isinstance(turn, Turn) and turn.start == 0.0 for turn in turns)


def test_logits_are_rescaled_for_good(tiny: Diarizer) -> None:
    heard = torch.randn(1, 16000), torch.tensor([16000])
    before, _ = tiny(*heard)
    tiny.head.rescale(2.5, -0.5)
    torch.testing.assert_close(tiny(*heard)[0], before / 2.5 - 0.5)
    assert tiny.head.output.weight.requires_grad


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="num_slots: is 0, but a window holds at least 1"):
        Diarizer(DiarizerConfig(num_slots=0))
    with pytest.raises(ConfigError, match="num_layer is not a setting .* Did you mean num_layers"):
        Diarizer(
            load_config(DiarizerConfig, overrides=["encoder.num_layer=3", "front_end.width=8"])
        )
    with pytest.raises(ConfigError, match="head_dropout is 1.5, but a share is from 0 to 1"):
        DiarizerConfig(head_dropout=1.5)


def upsampled(**settings: Any) -> Diarizer:
    front_end = {"_target_": "diarize.frontend.stacking.Stacking", "width": 8}
    encoder = {
        "_target_": "diarize.encoder.transformer.Transformer",
        "width": 8, "inner": 8, "num_layers": 1, "num_heads": 2,
    }  # fmt: skip
    config = DiarizerConfig(front_end=front_end, encoder=encoder, num_slots=3, **settings)
    return Diarizer(config).eval()


def test_a_finer_clock_begins_as_repetition() -> None:
    diarizer = upsampled(upsampling=4, head_width=6)
    assert diarizer.grid.frame_shift == 0.02
    posterior, num_frames = diarizer.posterior(torch.randn(1, 16000), torch.tensor([16000]))
    assert posterior.shape == (1, 52, 3) and num_frames.tolist() == [50]
    torch.testing.assert_close(posterior[0, :48:4], posterior[0, 3:48:4])


def test_finer_frames_of_a_batch_are_as_alone() -> None:
    torch.manual_seed(0)
    diarizer = upsampled(upsampling=8)
    torch.nn.init.normal_(diarizer.head.upsampling.convolution.weight)
    waveform, num_samples = torch.randn(2, 16000), torch.tensor([16000, 7000])
    posterior, num_frames = diarizer.posterior(waveform, num_samples)
    assert num_frames.tolist() == [100, 43]
    alone, _ = diarizer.posterior(waveform[1:, :7000], num_samples[1:])
    torch.testing.assert_close(posterior[1, :43], alone[0, :43], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("upsampling", [1, 8])
@pytest.mark.parametrize("sort_output", [False, True])
@pytest.mark.parametrize("wanted", [range(0, 3), range(2, 5), range(5, 9), range(0, 9)])
@torch.no_grad()
def test_logits_of_some_frames_are_those_of_all(
    upsampling: int, sort_output: bool, wanted: range
) -> None:
    diarizer = upsampled(upsampling=upsampling, sort_output=sort_output)
    if upsampling > 1:
        torch.nn.init.normal_(diarizer.head.upsampling.convolution.weight)
    embedding, num_frames = torch.randn(2, 9, 8), torch.tensor([9, 4])
    every = diarizer.classify(embedding, num_frames)
    some = diarizer.classify(embedding, num_frames, wanted)
    torch.testing.assert_close(some, every[:, wanted.start * upsampling : wanted.stop * upsampling])


def test_frames_are_cut_into_whole_steps() -> None:
    with pytest.raises(ConfigError, match="upsampling: is 3, but a frame .* is 8 steps of 160"):
        upsampled(upsampling=3)
