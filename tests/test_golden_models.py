"""Published architectures against what their makers' code answers: ``golden/models/README.md``."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from diarize.checkpoint import load_checkpoint
from diarize.inference import InferenceConfig, diarize_waveform
from diarize.streaming import StreamingDiarizer

GOLDEN = Path(__file__).parent / "golden" / "models"

LOW = "1.04s"
SMALL = "chunk=10,left=2,right=3,fifo=30,cache=40,update=20"
SMALL_NEMOTRON = "chunk=7,left=2,right=3,fifo=13,cache=45,update=11"


@pytest.fixture(scope="module")
def samples(root: Path) -> np.ndarray:
    waveform, _ = soundfile.read(root / "recipes" / "demo" / "conversation.flac", dtype="float32")
    return waveform


def stored(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return dict(arrays)


def close(ours: object, theirs: np.ndarray, atol: float) -> None:
    np.testing.assert_allclose(np.asarray(ours), theirs, atol=atol, rtol=0)


@pytest.mark.parametrize("name", ["sortformer_v1.nemo", "sortformer_v2.nemo", "nemotron3"])
def test_features(name: str, samples: np.ndarray) -> None:
    mel = load_checkpoint(GOLDEN / name).front_end.mel
    with torch.no_grad():
        features, _ = mel(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
    expected = stored(name.removesuffix(".nemo"))["features"]
    error = np.abs(features[0, ::25].numpy() - expected)
    # Where a bin holds a millionth of its frame's energy, float32 leaves no more than this.
    assert np.quantile(error, 0.98) < 1e-5 and error.max() < 5e-4


@pytest.mark.parametrize("name", ["sortformer_v1.nemo", "nemotron3"])
def test_offline(name: str, samples: np.ndarray) -> None:
    diarizer = load_checkpoint(GOLDEN / name)
    config = InferenceConfig.of(diarizer)
    config.window = 120.0  # the whole conversation
    posterior = diarize_waveform(diarizer, samples, config=config).posterior
    expected = stored(name.removesuffix(".nemo"))["offline"]
    assert expected.std() > 0.1
    close(posterior, expected, 2e-5)


@pytest.mark.parametrize(
    ("name", "key", "latency"),
    [
        ("sortformer_v2.nemo", "low", LOW),
        ("sortformer_v2.nemo", "small", SMALL),
        ("nemotron3", "low", LOW),
        ("nemotron3", "small", SMALL_NEMOTRON),
    ],
)
def test_streams(name: str, key: str, latency: str, samples: np.ndarray) -> None:
    stream = StreamingDiarizer(load_checkpoint(GOLDEN / name), latency)
    parts = [stream.feed(piece) for piece in np.array_split(samples, 13)]
    expected = stored(name.removesuffix(".nemo"))
    close(np.concatenate([*parts, stream.finish()]), expected[key], 1e-4)
    if f"{key}_cache" in expected:
        close(stream._memory.cache, expected[f"{key}_cache"], 1e-4)
        close(stream._memory.fifo, expected[f"{key}_fifo"], 1e-4)
