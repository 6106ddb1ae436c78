"""Nemotron-3's folders: their settings and tensors, by our names.

Hugging Face's transformers writes ``config.json`` and ``model.safetensors``, and perhaps
``processor_config.json`` beside them.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from diarize.errors import CheckpointError, ConfigError
from diarize.frontend.log_mel import LogMel, LogMelConfig
from diarize.latency import DEFAULT, OFFLINE, StreamingConfig, format_latency
from diarize.nemo import Archive

CONFIG = "config.json"
PROCESSOR = "processor_config.json"
WEIGHTS = "model.safetensors"

MODEL_TYPE = "nemotron3_diarization"

WAITS = {"low_latency": [9, 4], "very_low_latency": [6, 2], "ultra_low_latency": [3, 1]}
"""Chunk and what is heard after it, of the published modes, in frames."""

PRECISIONS = (torch.float32, torch.float16, torch.bfloat16)
"""To which window and filter bank may have been rounded."""

KNOWN: dict[str, Any] = {
    "audio_config.hidden_act": "gelu",
    "audio_config.subsampling_factor": 8,
    "audio_config.rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 1.0,
    },
    "head_config.subsampling_factor": 8,
    "streaming_config.prediction_score_threshold": StreamingConfig.threshold,
    "streaming_config.latest_frames_score_boost": StreamingConfig.latest_boost,
    "streaming_config.strong_boost_rate": StreamingConfig.strong_rate,
    "streaming_config.weak_boost_rate": StreamingConfig.weak_rate,
    "streaming_config.min_positive_scores_rate": StreamingConfig.positive_rate,
}
"""Settings that decide how the network is built, and the value that ours is built with. What a
folder leaves out is as published."""

LAYER = {
    "self_attn.q_proj": "query",
    "self_attn.k_proj": "key",
    "self_attn.v_proj": "value",
    "self_attn.o_proj": "output",
    "layer_norm1": "norm_attention",
    "layer_norm2": "norm_feed_forward",
    "mlp.fc1": "expand",
    "mlp.fc2": "project",
}
NAMES = {
    "model.audio_tower.embedder.projection": "front_end.projection",
    "model.audio_tower.input_layer_norm": "encoder.norm_input",
    "model.audio_tower.layer_norm": "encoder.norm",
    "model.proj": "head.projection",
    "model.upsampler.conv": "head.upsampling.convolution",
    "classifier.dense": "head.hidden",
    "classifier.out_proj": "head.output",
}
LAYERS = "model.audio_tower.layers."


def is_nemotron(folder: Path) -> bool:
    """Whether a folder holds what `read_nemotron` reads."""
    return all((folder / name).is_file() for name in (CONFIG, WEIGHTS))


def read_nemotron(folder: Path) -> Archive:
    """What a folder holds.

    Args:
        folder: with ``config.json`` and ``model.safetensors``.

    Raises:
        CheckpointError: if it is damaged, or no Nemotron-3 that can be built here.
    """
    settings = _settings(folder / CONFIG)
    found = settings.get("model_type")
    if found != MODEL_TYPE:
        raise CheckpointError(
            f"{folder / CONFIG}: describes a {found!r}, but of such folders only "
            f"{MODEL_TYPE!r} is a diarizer. Give another."
        )
    processor = _settings(folder / PROCESSOR) if (folder / PROCESSOR).is_file() else {}
    try:
        _check(folder, settings)
        diarizer = _diarizer(settings, processor)
        inference = _inference(settings, processor)
        tensors = {named(name): tensor for name, tensor in _tensors(folder).items()}
        mel = LogMel(LogMelConfig(**diarizer["front_end"]["mel"])).to(_precision(folder, processor))
    except CheckpointError:
        raise
    except ConfigError as error:
        raise CheckpointError(f"{folder}: cannot be rebuilt. {error}") from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / CONFIG}: cannot be understood ({type(error).__name__}: {error}). "
            "Is it a Nemotron-3's?"
        ) from None
    # These folders hold no window and no filter bank, only how they were rounded.
    tensors |= {f"front_end.mel.{n}": tensor.float() for n, tensor in mel.state_dict().items()}
    version = settings.get("transformers_version", "of unknown version")
    return Archive(diarizer, tensors, inference, {"source": f"transformers {version}"})


def named(name: str) -> str:
    """Our name of a tensor; one that we do not know keeps its own."""
    stem, _, last = name.rpartition(".")
    if name == "silence_embeds":
        return "silence"
    if stem in NAMES:
        return f"{NAMES[stem]}.{last}"
    if name.startswith(LAYERS):
        number, _, part = stem.removeprefix(LAYERS).partition(".")
        if part in LAYER:
            return f"encoder.layers.{number}.{LAYER[part]}.{last}"
    return name


def _settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is not JSON ({error}). Get it anew.") from None
    if not isinstance(settings, dict):
        raise CheckpointError(
            f"{path}: holds a {type(settings).__name__}, but settings are an object. Get it anew."
        )
    return settings


def _check(folder: Path, settings: dict[str, Any]) -> None:
    for key, known in KNOWN.items():
        section, setting = key.split(".")
        value = settings[section].get(setting, known)
        if value != known:
            raise CheckpointError(
                f"{folder / CONFIG}: {key} is {value!r}, but only {known!r} can be built here. "
                "Give another model."
            )
    audio = settings["audio_config"]
    heads = audio.get("num_key_value_heads") or audio["num_attention_heads"]
    if heads != audio["num_attention_heads"]:
        raise CheckpointError(
            f"{folder / CONFIG}: audio_config.num_key_value_heads is {heads}, but only as many as "
            f"num_attention_heads, {audio['num_attention_heads']}, can be built here. "
            "Give another model."
        )


def _precision(folder: Path, processor: dict[str, Any]) -> torch.dtype:
    name = processor.get("feature_extractor", {}).get("mel_filters_dtype", "float32")
    precisions = {str(dtype).removeprefix("torch."): dtype for dtype in PRECISIONS}
    if name not in precisions:
        raise CheckpointError(
            f"{folder / PROCESSOR}: feature_extractor.mel_filters_dtype is {name!r}, but it may be "
            f"{', '.join(precisions)}. Get the file anew."
        )
    return precisions[name]


def _diarizer(settings: dict[str, Any], processor: dict[str, Any]) -> dict[str, Any]:
    """Their settings as ours."""
    audio, head = settings["audio_config"], settings["head_config"]
    features = processor.get("feature_extractor", {})
    return {
        "front_end": {
            "_target_": "diarize.frontend.stacking.Stacking",
            "mel": {
                "sample_rate": features.get("sampling_rate", 16000),
                "num_mels": audio.get("num_mel_bins", 128),
                "window_samples": features.get("win_length", 400),
                "hop_samples": features.get("hop_length", 160),
                "num_fft": features.get("n_fft", 512),
                "pre_emphasis": features.get("preemphasis", 0.97),
                "normalization": "none",
            },
            "width": audio["hidden_size"],
        },
        "encoder": {
            "_target_": "diarize.encoder.transformer.Transformer",
            "width": audio["hidden_size"],
            "inner": audio["intermediate_size"],
            "num_layers": audio["num_hidden_layers"],
            "num_heads": audio["num_attention_heads"],
            "pre_norm": True,
            "input_norm": True,
            "attention_bias": False,
            "positions": "rotary",
            "activation": "gelu",
            "attention_dropout": audio.get("attention_dropout", 0.0),
            "dropout": 0.0,
        },
        "num_slots": head.get("num_speakers", 8),
        "head_width": head["hidden_size"],
        "upsampling": head.get("subsampling_factor", 8),
        "head_dropout": 0.0,
        "learned_silence": True,
    }


def _inference(settings: dict[str, Any], processor: dict[str, Any]) -> dict[str, Any]:
    """How it is run, by name; waits are those of the modes that come with it."""
    stored = settings["streaming_config"]
    live = StreamingConfig(
        left=0,
        fifo=stored["fifo_length"],
        update=stored["speaker_cache_update_period"],
        cache=stored["speaker_cache_length"],
        silence=stored["speaker_cache_silence_frames_per_speaker"],
    )
    offline = StreamingConfig(
        chunk=settings["chunk_length"],
        left=settings["chunk_left_context"],
        right=settings["chunk_right_context"],
        fifo=settings["fifo_length"],
        update=settings["speaker_cache_update_period"],
        cache=live.cache,
        silence=live.silence,
    )
    frame = 0.01 * settings["audio_config"].get("subsampling_factor", 8)
    named = {OFFLINE: offline, f"{frame * (offline.chunk + offline.right):g}s": offline}
    modes = processor.get("streaming_modes", WAITS)
    for chunk, right in modes.values():
        named[f"{frame * (chunk + right):g}s"] = replace(live, chunk=chunk, right=right)
    chunk, right = modes.get(processor.get("streaming_mode"), WAITS["low_latency"])
    named[DEFAULT] = replace(live, chunk=chunk, right=right)
    latencies = {name: format_latency(config) for name, config in named.items()}
    return {"latency": OFFLINE, "latencies": latencies}


def _tensors(folder: Path) -> dict[str, Tensor]:
    try:
        return load_file(folder / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder / WEIGHTS}: cannot be read ({error}). Get it anew."
        ) from None
