"""Nemotron-3 against stored outputs of transformers 5.23.0 (``shared/parity/README.md``)."""

import ast
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from diarize.checkpoint import load_checkpoint
from diarize.inference import InferenceConfig, diarize_waveform
from diarize.model import Diarizer, DiarizerConfig
from diarize.nemotron import named
from diarize.postprocess import PostprocessConfig, to_turns
from diarize.stream import feed_together, finish_together
from diarize.streaming import StreamingDiarizer

pytestmark = pytest.mark.parity

ODD = "cache=45,silence=2"


@pytest.fixture(scope="module")
def stored(shared: Path) -> dict[str, np.ndarray]:
    with np.load(shared / "parity" / "nemotron3" / "nemotron3_tiny_ref.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def samples(shared: Path) -> np.ndarray:
    return np.load(shared / "parity" / "nemo" / "inputs.npz")["A"]


@pytest.fixture(scope="module")
def diarizer(shared: Path) -> Diarizer:
    return load_checkpoint(shared / "parity" / "nemotron3" / "model")


def close(ours: object, theirs: np.ndarray, atol: float) -> None:
    torch.testing.assert_close(torch.as_tensor(ours), torch.as_tensor(theirs), atol=atol, rtol=0)


def posterior_of(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).sigmoid().numpy()


def streamed(diarizer: Diarizer, latency: str, samples: np.ndarray) -> tuple[np.ndarray, object]:
    stream = StreamingDiarizer(diarizer, latency)
    parts = [stream.feed(samples[i : i + 30_001]) for i in range(0, len(samples), 30_001)]
    return np.concatenate([*parts, stream.finish()]), stream._memory


@torch.no_grad()
def test_every_stage_equals_transformers(
    diarizer: Diarizer, stored: dict[str, np.ndarray], samples: np.ndarray
) -> None:
    mel, num_frames = diarizer.front_end.mel(
        torch.from_numpy(samples)[None], torch.tensor([len(samples)])
    )
    assert num_frames.item() == 6000
    close(mel[0, :64], stored["features_f32_first64"], 1e-4)
    close(mel[0, -15:], stored["features_f32_last16"][:15], 1e-4)  # then the masked extra row
    close(mel[0, ::5], stored["features_f16_every5"][:1200].astype(np.float32), 1e-2)
    close(mel[0].double().mean(0), stored["features_mean_f64"] * 6001 / 6000, 1e-3)
    embedding, frames = diarizer.front_end.subsampling(mel, num_frames)
    close(embedding[0, :64], stored["embedder_first64"], 1e-4)
    heard = embedding[:, :380]
    encoded = diarizer.encoder(heard, torch.tensor([380]))
    close(encoded[0], stored["enc_chunk0_last_hidden"], 1e-4)
    finer = diarizer.head.upsampling(diarizer.head.projection(encoded), torch.tensor([380]))
    close(finer[0, :64], stored["enc_chunk0_upsampled_first64"], 1e-4)


def test_offline_equals_transformers(
    diarizer: Diarizer, stored: dict[str, np.ndarray], samples: np.ndarray
) -> None:
    result = diarize_waveform(diarizer, samples, config=InferenceConfig.of(diarizer))
    assert result.posterior.shape == (6000, 8) and result.frame_shift == 0.01
    # The last rows of theirs hear the masked extra row (facts, section 7).
    close(result.posterior[:-8], posterior_of(stored["offline_logits"])[:5992], 1e-5)
    trimmed = posterior_of(stored["offline_trimmed_last64_logits"])
    close(result.posterior[-64:], trimmed, 1e-5)


@pytest.mark.parametrize(("latency", "key"), [("1.04s", "low"), ("0.32s", "ultra_low")])
def test_streams_equal_transformers(
    diarizer: Diarizer,
    stored: dict[str, np.ndarray],
    samples: np.ndarray,
    latency: str,
    key: str,
) -> None:
    posterior, memory = streamed(diarizer, latency, samples)
    close(posterior, posterior_of(stored[f"{key}_latency_logits"]), 1e-4)
    if latency == "1.04s":
        close(memory.cache, stored["low_latency_final_cache_embeds"], 1e-4)
        close(memory.cache_posterior, stored["low_latency_final_cache_probs"], 1e-4)


def test_odd_settings_equal_transformers(
    diarizer: Diarizer, stored: dict[str, np.ndarray], samples: np.ndarray
) -> None:
    latency = f"chunk=7,left=5,right=3,fifo=13,update=11,{ODD}"
    # Theirs takes all that is left in its last step: 35 steps of 7 frames are as ours.
    posterior, _ = streamed(diarizer, latency, samples[: 2003 * 160])
    rows = 35 * 56
    assert stored["odd_stream_steps"].shape == (36, 3) and len(posterior) == 2003
    close(posterior[:rows], posterior_of(stored["odd_stream_logits"])[:rows], 1e-4)


def test_a_batch_equals_transformers(
    diarizer: Diarizer, stored: dict[str, np.ndarray], samples: np.ndarray
) -> None:
    latency = f"chunk=50,left=7,right=13,fifo=20,update=33,{ODD}"
    pieces = [samples[:256_000], samples[480_000:640_777]]
    streams = [StreamingDiarizer(diarizer, latency) for _ in pieces]
    fed = feed_together(streams, pieces)
    ended = finish_together(streams)
    valid = stored["odd_offline_batch_valid"].tolist()
    for row, parts in enumerate(zip(fed, ended, strict=True)):
        posterior = np.concatenate(parts)
        assert len(posterior) == valid[row]
        # The last frame of theirs hears padding through its neighbours.
        expected = posterior_of(stored["odd_offline_batch_logits"][row])[: valid[row] - 8]
        close(posterior[: len(expected)], expected, 1e-4)


def test_the_published_size_has_the_published_tensors(shared: Path) -> None:
    published = {}
    for line in (shared / "facts" / "keys" / "nemotron3.txt").read_text().splitlines()[1:]:
        name, shape = line.split("\t")[:2]
        published[named(name)] = ast.literal_eval(shape)
    front_end = {"_target_": "diarize.frontend.stacking.Stacking"}
    encoder = {
        "_target_": "diarize.encoder.transformer.Transformer",
        "width": 512, "inner": 2048, "num_layers": 31, "num_heads": 8, "activation": "gelu",
        "pre_norm": True, "input_norm": True, "attention_bias": False, "positions": "rotary",
    }  # fmt: skip
    config = DiarizerConfig(
        front_end=front_end, encoder=encoder, num_slots=8,
        head_width=192, upsampling=8, learned_silence=True,
    )  # fmt: skip
    with torch.device("meta"):
        own = Diarizer(config)
    shapes = {n: tuple(t.shape) for n, t in own.state_dict().items() if "front_end.mel." not in n}
    assert shapes == published and len(published) == 417
    assert sum(parameter.numel() for parameter in own.parameters()) == 99_226_504


@pytest.mark.parametrize("mode", ["offline", "low_latency"])
def test_turns_equal_transformers(mode: str, stored: dict[str, np.ndarray], shared: Path) -> None:
    posterior = posterior_of(stored[f"{mode}_logits"])[:6000]  # then the masked row
    told = json.loads((shared / "parity" / "nemotron3" / "segments.json").read_text())[mode]
    turns = to_turns(posterior, 0.01, PostprocessConfig())
    # As in NeMo, speech that lasts to the end ends 10 ms before it.
    lost = (posterior[-1] > 0.5) & (posterior[-2] <= 0.5)
    assert len(turns) == told["n"] - lost.sum()
    ours = [(turn.start, int(turn.speaker[-1]), turn.end) for turn in turns]
    theirs = [(turn["Start"], turn["Speaker"], turn["End"]) for turn in told["first"]]
    assert sorted(ours)[: len(theirs)] == theirs
