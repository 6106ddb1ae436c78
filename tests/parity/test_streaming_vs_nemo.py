"""Whole streams against stored outputs of NeMo 3.0.0 (``shared/parity/README.md``)."""

from pathlib import Path

import numpy as np
import pytest
import torch

from diarize.checkpoint import load_checkpoint
from diarize.latency import parse_latency
from diarize.streaming import StreamingDiarizer

pytestmark = pytest.mark.parity

SETTINGS = {
    "default": "chunk=188,left=1,right=1,fifo=0,cache=188,update=188",
    "low": "1.04s",
    "ultra": "0.32s",
    "high": "10s",
    "vhigh": "30.4s",
    "small": "chunk=10,left=2,right=3,fifo=30,cache=40,update=20",
}
STORED = [(name, "A") for name in SETTINGS] + [(n, "C") for n in ("default", "low", "small")]


@pytest.mark.parametrize(("setting", "name"), STORED)
def test_streams_equal_nemo(setting: str, name: str, shared: Path) -> None:
    folder = shared / "parity" / "nemo"
    expected = np.load(folder / f"v2_tiny_stream_{setting}_{name}.npz")
    samples = np.load(folder / "inputs.npz")[name]
    diarizer = load_checkpoint(folder / "sortformer_v2_tiny_random.nemo")
    stream = StreamingDiarizer(diarizer, SETTINGS[setting])
    posterior = [stream.feed(samples[i : i + 30_000]) for i in range(0, len(samples), 30_000)]
    posterior = np.concatenate([*posterior, stream.finish()])

    def close(ours: object, theirs: np.ndarray, atol: float) -> None:
        torch.testing.assert_close(
            torch.as_tensor(ours), torch.as_tensor(theirs), atol=atol, rtol=0
        )

    close(posterior, expected["probs"][0], 1e-4)
    memory = stream._memory
    close(memory.cache, expected["spkcache"][0], 1e-4)
    close(memory.fifo, expected["fifo"][0], 1e-4)
    close(memory.silence, expected["mean_sil_emb"][0], 1e-4)
    assert memory.num_silence == expected["n_sil_frames"][0]
    if "spkcache_preds" in expected:
        assert memory.cache_posterior is not None
        close(memory.cache_posterior, expected["spkcache_preds"][0], 1e-4)


def test_the_archive_says_how_it_was_published(shared: Path) -> None:
    path = shared / "parity" / "nemo" / "sortformer_v2_tiny_random.nemo"
    inference = load_checkpoint(path).inference
    assert inference["latency"] == "default"
    assert parse_latency("default", inference["latencies"]) == parse_latency(SETTINGS["default"])
    assert parse_latency("1.04s", inference["latencies"]) == parse_latency(
        "chunk=6,left=1,right=7,fifo=188,cache=188,update=144"
    )
