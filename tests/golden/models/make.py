"""What NeMo and transformers answer to the sample conversation, with the weights beside this file.

    python tests/golden/models/make.py

Needs nemo_toolkit[asr] and transformers; README.md says which versions were used.
"""

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from nemo.collections.asr.models import SortformerEncLabelModel
from transformers import AutoFeatureExtractor, Nemotron3DiarizationForAudioFrameClassification

HERE = Path(__file__).parent
CONVERSATION = HERE.parents[2] / "recipes" / "demo" / "conversation.flac"

SORTFORMER = {
    "chunk_len": "chunk",
    "chunk_left_context": "left",
    "chunk_right_context": "right",
    "fifo_len": "fifo",
    "spkcache_len": "cache",
    "spkcache_update_period": "update",
}
"""NeMo's names of what a latency says, and ours."""

STREAMS = {
    "low": {"chunk": 6, "left": 1, "right": 7, "fifo": 188, "cache": 188, "update": 144},
    "small": {"chunk": 10, "left": 2, "right": 3, "fifo": 30, "cache": 40, "update": 20},
}
NEMOTRON = {
    "low": {"chunk": 9, "left": 0, "right": 4, "fifo": 264, "cache": 264, "update": 222},
    "small": {"chunk": 7, "left": 2, "right": 3, "fifo": 13, "cache": 45, "update": 11},
}
"""Settings of streams, in frames of 80 ms; the published low latency, and one that compresses its
cache many times."""


def main() -> None:
    """Write an ``.npz`` beside each model."""
    samples, rate = soundfile.read(CONVERSATION, dtype="float32")
    assert rate == 16000 and samples.ndim == 1
    for name in ("sortformer_v1", "sortformer_v2"):
        np.savez_compressed(HERE / f"{name}.npz", **sortformer(HERE / f"{name}.nemo", samples))
    np.savez_compressed(HERE / "nemotron3.npz", **nemotron(HERE / "nemotron3", samples))


@torch.no_grad()
def sortformer(path: Path, samples: np.ndarray) -> dict[str, np.ndarray]:
    """Features, and posteriors offline and of streams with what they remember at the end."""
    model = SortformerEncLabelModel.restore_from(str(path), map_location="cpu").eval()
    model.preprocessor.featurizer.dither = 0.0
    model.preprocessor.featurizer.pad_to = 0
    model.async_streaming = False
    signal, length = torch.from_numpy(samples)[None], torch.tensor([len(samples)])
    features, _ = model.process_signal(signal, length)
    found = {"features": features[0, :, : len(samples) // 160 : 25].T.numpy()}
    if not model.streaming_mode:
        return found | {"offline": model.forward(signal, length)[0].numpy()}
    last: dict[str, Any] = {}
    step = model.forward_streaming_step

    def watched(*args: Any, **kwargs: Any) -> Any:
        last["state"], posterior = step(*args, **kwargs)
        return last["state"], posterior

    model.forward_streaming_step = watched
    for name, settings in STREAMS.items():
        for theirs, ours in SORTFORMER.items():
            setattr(model.sortformer_modules, theirs, settings[ours])
        found[name] = model.forward(signal, length)[0].numpy()
        state = last["state"]
        found[f"{name}_cache"] = state.spkcache[0].numpy()
        found[f"{name}_fifo"] = state.fifo[0].numpy()
    return found


@torch.no_grad()
def nemotron(folder: Path, samples: np.ndarray) -> dict[str, np.ndarray]:
    """Posteriors offline and of streams, each computed as chunks of the whole file's features."""
    found = {}
    for name, settings in {"offline": None, **NEMOTRON}.items():
        model = Nemotron3DiarizationForAudioFrameClassification.from_pretrained(folder).eval()
        config = model.config
        if settings is not None:
            config.chunk_length = settings["chunk"]
            config.chunk_left_context = settings["left"]
            config.chunk_right_context = settings["right"]
            config.fifo_length = settings["fifo"]
            config.speaker_cache_update_period = settings["update"]
            config.streaming_config.speaker_cache_length = settings["cache"]
        extractor = AutoFeatureExtractor.from_pretrained(folder)
        inputs = extractor(samples, sampling_rate=16000, return_tensors="pt")
        # The row behind the last valid one is masked, but heard by the upsampling.
        valid = len(samples) // 160
        logits = model(inputs["input_features"][:, :valid]).logits[0, :valid]
        found[name] = logits.sigmoid().numpy()
        found["features"] = inputs["input_features"][0, :valid:25].numpy()
    return found


if __name__ == "__main__":
    main()
