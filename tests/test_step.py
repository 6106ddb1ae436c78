"""The step of a stream as a graph has it, run by torch: what `StreamingDiarizer` answers."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from test_streaming import TINY, noise

from diarize.config import load_config
from diarize.errors import AudioError, ConfigError
from diarize.exported import GraphConfig
from diarize.exported_stream import ExportedStream
from diarize.graph import as_written
from diarize.latency import parse_latency
from diarize.model import Diarizer
from diarize.module import TrainingConfig
from diarize.step import Step, behind, rows_from
from diarize.stream import feed_together, finish_together
from diarize.streaming import StreamingDiarizer

SETTINGS = [
    "chunk=4,left=1,right=2,fifo=6,cache=20,update=5",
    "chunk=5,left=0,right=0,fifo=0,cache=16,update=5",
    "chunk=3,left=2,right=1,fifo=9,cache=17,update=12",
]


@pytest.fixture(scope="module")
def diarizer() -> Diarizer:
    """A streaming model of random weights whose posteriors spread."""
    torch.manual_seed(3)
    settings = ["diarizer.front_end.mel.normalization=none"]
    diarizer = Diarizer(load_config(TrainingConfig, [TINY], settings).diarizer).eval()
    with torch.no_grad():
        diarizer.head.output.weight.mul_(20)
    return diarizer


class Graph:
    """What `ExportedStream` asks of an exported model, with torch behind it."""

    def __init__(self, diarizer: Diarizer, latency: str) -> None:
        config = parse_latency(latency)
        assert config is not None
        self._step = Step(diarizer, config)
        self._config = config
        self.grid, self.num_slots = diarizer.grid, diarizer.num_slots
        self.postprocess = diarizer.postprocess
        grid = diarizer.front_end.grid
        self.graph = GraphConfig(
            num_slots=diarizer.num_slots,
            sample_rate=16000,
            hop=grid.hop,
            step=grid.step,
            upsampling=diarizer.config.upsampling,
            stretch=self._step.num_samples,
            reach=diarizer.front_end.mel.config.num_fft // 2,
        )

    def latency(self):
        return self._config

    def begin(self) -> list[np.ndarray]:
        return [part.numpy() for part in self._step.begin(1)]

    @torch.inference_mode()
    def step(self, signal, numbers, memory):
        told = torch.from_numpy(numbers).T.unbind(0)
        with as_written():
            posterior, *after = self._step(
                torch.from_numpy(signal), *told, *map(torch.from_numpy, memory)
            )
        return posterior.numpy(), [part.numpy() for part in after]


@pytest.mark.parametrize("latency", SETTINGS)
@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.7, 14.3])
def test_a_stream_answers_as_the_model_does(
    diarizer: Diarizer, latency: str, seconds: float
) -> None:
    samples = noise(seconds)
    theirs = StreamingDiarizer(diarizer, latency)
    ours = ExportedStream(Graph(diarizer, latency))
    assert ours.wait == pytest.approx(theirs.wait)
    for stretch in np.split(samples, [100, 5000, 5001, 40000]):
        np.testing.assert_allclose(ours.feed(stretch), theirs.feed(stretch), atol=1e-4)
    np.testing.assert_allclose(ours.finish(), theirs.finish(), atol=1e-4)
    told = [[replace(turn, confidence=None) for turn in s.turns()] for s in (ours, theirs)]
    assert told[0] == told[1]
    assert ours.duration == theirs.duration


def test_streams_of_any_age_go_together(diarizer: Diarizer) -> None:
    graph = Graph(diarizer, SETTINGS[0])
    old, new = ExportedStream(graph), ExportedStream(graph)
    parts = [noise(9.0, 1), noise(3.0, 2), noise(2.1, 3)]
    answers = [old.feed(parts[0])]
    together = feed_together([old, new], parts[1:])
    ends = finish_together([old, new])
    answers = [
        np.concatenate([*answers, together[0], ends[0]]),
        np.concatenate([together[1], ends[1]]),
    ]
    for samples, answer in zip((np.concatenate(parts[:2]), parts[2]), answers, strict=True):
        alone = StreamingDiarizer(diarizer, SETTINGS[0])
        wanted = np.concatenate([alone.feed(samples), alone.finish()])
        np.testing.assert_allclose(answer, wanted, atol=1e-4)


def test_what_one_stream_cannot_take_none_takes(diarizer: Diarizer) -> None:
    graph = Graph(diarizer, SETTINGS[0])
    one, other = ExportedStream(graph), ExportedStream(graph)
    with pytest.raises(AudioError, match="some are no numbers"):
        feed_together([one, other], [noise(1.0), np.full(3, np.nan, dtype=np.float32)])
    assert (one.duration, other.duration) == (0.0, 0.0)
    with pytest.raises(ConfigError, match="a stream stands there twice"):
        finish_together([one, one])
    with pytest.raises(ConfigError, match="max_speakers is 0, but a stream tells of at least 1"):
        ExportedStream(graph, max_speakers=0)


def test_rows_lie_behind_those_that_count() -> None:
    first = torch.tensor([[1, 2, 3], [4, 5, 6]]).unsqueeze(-1)
    second = torch.tensor([[7, 8], [9, 0]]).unsqueeze(-1)
    packed = behind(first, torch.tensor([1, 3]), second)[..., 0]
    assert packed[:, :3].tolist() == [[1, 7, 8], [4, 5, 6]]
    assert packed[1].tolist() == [4, 5, 6, 9, 0]
    assert rows_from(first, torch.tensor([1, 2]), 2)[..., 0].tolist() == [[2, 3], [6, 6]]
