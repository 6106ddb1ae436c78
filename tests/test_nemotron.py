"""Nemotron-3's folders: read by name, and refused with a reason."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from diarize.checkpoint import load_checkpoint, save_checkpoint
from diarize.errors import CheckpointError
from diarize.inference import InferenceConfig, diarize_waveform
from diarize.nemotron import NAMES, named
from diarize.streaming import StreamingDiarizer

Folder = Callable[..., Path]

CONFIG: dict[str, Any] = {
    "model_type": "nemotron3_diarization",
    "transformers_version": "5.23.0",
    "audio_config": {
        "hidden_act": "gelu",
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "num_key_value_heads": None,
        "num_mel_bins": 8,
        "rope_parameters": {
            "partial_rotary_factor": 1.0,
            "rope_theta": 10000.0,
            "rope_type": "default",
        },
        "subsampling_factor": 8,
    },
    "head_config": {"hidden_size": 6, "num_speakers": 3, "subsampling_factor": 8},
    "streaming_config": {
        "fifo_length": 30,
        "speaker_cache_length": 24,
        "speaker_cache_silence_frames_per_speaker": 1,
        "speaker_cache_update_period": 20,
    },
    "chunk_length": 20,
    "chunk_right_context": 4,
    "chunk_left_context": 0,
    "fifo_length": 5,
    "speaker_cache_update_period": 15,
}


def weights() -> dict[str, Tensor]:
    """Random tensors of the settings above, by the names and in the shapes of transformers."""
    generator = torch.Generator().manual_seed(0)
    tower = "model.audio_tower."
    shapes: dict[str, tuple[int, ...]] = {
        "silence_embeds": (16,),
        f"{tower}embedder.projection.weight": (16, 64),
        "model.proj.weight": (6, 16),
        "model.proj.bias": (6,),
        "model.upsampler.conv.weight": (48, 6, 3),
        "model.upsampler.conv.bias": (48,),
        "classifier.dense.weight": (6, 6),
        "classifier.dense.bias": (6,),
        "classifier.out_proj.weight": (3, 6),
        "classifier.out_proj.bias": (3,),
    }
    for name in ("input_layer_norm", "layer_norm"):
        shapes |= {f"{tower}{name}.{part}": (16,) for part in ("weight", "bias")}
    for layer in (f"{tower}layers.0.", f"{tower}layers.1."):
        for part in ("q", "k", "v", "o"):
            shapes[f"{layer}self_attn.{part}_proj.weight"] = (16, 16)
        shapes[f"{layer}self_attn.o_proj.bias"] = (16,)
        for part in ("layer_norm1", "layer_norm2"):
            shapes |= {f"{layer}{part}.weight": (16,), f"{layer}{part}.bias": (16,)}
        shapes |= {f"{layer}mlp.fc1.weight": (24, 16), f"{layer}mlp.fc1.bias": (24,)}
        shapes |= {f"{layer}mlp.fc2.weight": (16, 24), f"{layer}mlp.fc2.bias": (16,)}
    return {n: torch.randn(s, generator=generator) * 0.4 for n, s in shapes.items()}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """``folder(config=None, state=None, processor=None)`` -> path."""

    def write(config: Any = None, state: Any = None, processor: Any = None) -> Path:
        path = tmp_path / "model"
        path.mkdir(exist_ok=True)
        text = config if isinstance(config, str) else json.dumps(config or CONFIG)
        (path / "config.json").write_text(text)
        if processor is not None:
            (path / "processor_config.json").write_text(json.dumps(processor))
        save_file(weights() if state is None else state, path / "model.safetensors")
        return path

    return write


def changed(section: str, **values: Any) -> dict[str, Any]:
    return CONFIG | {section: CONFIG[section] | values}


def noise(seconds: float) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(0, 0.1, round(seconds * 16000)).astype(np.float32)


def test_a_folder_becomes_a_diarizer(folder: Folder) -> None:
    diarizer = load_checkpoint(folder())
    published, own = weights(), diarizer.state_dict()
    assert torch.equal(own["silence"], published["silence_embeds"])
    query = published["model.audio_tower.layers.1.self_attn.q_proj.weight"]
    assert torch.equal(own["encoder.layers.1.query.weight"], query)
    assert diarizer.grid.frame_shift == 0.01 and diarizer.front_end.grid.frame_shift == 0.08
    posterior, num_frames = diarizer.posterior(torch.rand(2, 16000), torch.tensor([16000, 9999]))
    assert posterior.shape == (2, 104, 3) and num_frames.tolist() == [100, 62]


def test_every_name_of_the_table_is_met() -> None:
    ours = {named(name) for name in weights()}
    for stem in NAMES.values():
        assert any(name.startswith(stem) for name in ours), stem
    assert not [name for name in ours if name.startswith(("model.", "classifier."))]


def test_it_is_run_as_its_settings_say(folder: Folder) -> None:
    inference = load_checkpoint(folder()).inference
    live = "left=0,right={},fifo=30,cache=24,update=20,silence=1"
    offline = "chunk=20,left=0,right=4,fifo=5,cache=24,update=15,silence=1"
    assert inference == {
        "latency": "offline",
        "latencies": {
            "offline": offline,
            "1.92s": offline,
            "1.04s": f"chunk=9,{live.format(4)}",
            "0.64s": f"chunk=6,{live.format(2)}",
            "0.32s": f"chunk=3,{live.format(1)}",
            "default": f"chunk=9,{live.format(4)}",
        },
    }
    processor = {"streaming_mode": "slow", "streaming_modes": {"slow": [20, 5], "fast": [1, 1]}}
    latencies = load_checkpoint(folder(processor=processor)).inference["latencies"]
    assert latencies["default"] == latencies["2s"] == f"chunk=20,{live.format(5)}"
    assert latencies.keys() == {"offline", "1.92s", "2s", "0.16s", "default"}


def test_offline_is_by_chunks_and_a_copy_answers_alike(folder: Folder, tmp_path: Path) -> None:
    diarizer, samples = load_checkpoint(folder()), noise(7.0)
    whole = diarize_waveform(diarizer, samples, config=InferenceConfig.of(diarizer)).posterior
    stream = StreamingDiarizer(diarizer, "1.92s")
    np.testing.assert_array_equal(whole, np.concatenate([stream.feed(samples), stream.finish()]))
    assert whole.shape == (700, 3) and whole.std() > 0.01
    again = load_checkpoint(save_checkpoint(diarizer, tmp_path / "native"))
    copied = diarize_waveform(again, samples, config=InferenceConfig.of(again)).posterior
    np.testing.assert_allclose(copied, whole, atol=1e-6)


def test_filters_are_rounded_as_the_processor_says(folder: Folder) -> None:
    exact = load_checkpoint(folder()).front_end.mel
    processor = {"feature_extractor": {"mel_filters_dtype": "bfloat16"}}
    rounded = load_checkpoint(folder(processor=processor)).front_end.mel
    for name in ("window", "filter_bank"):
        expected = getattr(exact, name).bfloat16().float()
        assert torch.equal(getattr(rounded, name), expected)
        assert not torch.equal(getattr(exact, name), expected)
    processor = {"feature_extractor": {"mel_filters_dtype": "int4"}}
    with pytest.raises(CheckpointError, match="mel_filters_dtype is 'int4', but it may be float32"):
        load_checkpoint(folder(processor=processor))


@pytest.mark.parametrize("num_samples", [0, 159, 160, 1440, 12345])
def test_every_whole_step_of_ten_milliseconds_is_answered(folder: Folder, num_samples: int) -> None:
    stream = StreamingDiarizer(load_checkpoint(folder()), "0.32s")
    parts = [stream.feed(piece) for piece in np.array_split(noise(1.0)[:num_samples], 3)]
    posterior = np.concatenate([*parts, stream.finish()])
    assert posterior.shape == (num_samples // 160, 3) and np.isfinite(posterior).all()


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("{", "config.json: is not JSON"),
        ("[1]", "config.json: holds a list, but settings are an object"),
        (CONFIG | {"model_type": "whisper"}, "describes a 'whisper', but of such folders only"),
        ({"model_type": "nemotron3_diarization"}, "cannot be understood .KeyError: 'audio_config'"),
        (changed("audio_config", hidden_act="relu"), "hidden_act is 'relu', but only 'gelu' can"),
        (changed("audio_config", num_key_value_heads=1), "num_key_value_heads is 1, but only as"),
        (changed("streaming_config", weak_boost_rate=2.0), "weak_boost_rate is 2.0, but only 1.5"),
        (changed("streaming_config", fifo_length=-1), "fifo is -1, but it is at least 0"),
        (changed("audio_config", num_mel_bins=9), r"front_end.projection.weight is \(16, 64\)"),
        (changed("head_config", num_speakers=4), r"head.output.bias is \(3,\), but the model"),
    ],
)
def test_settings_of_something_else(folder: Folder, config: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(folder(config))
    assert str(caught.value).count("\n") == 0 and "model" in str(caught.value)


def test_damaged_weights(folder: Folder) -> None:
    state = weights()
    del state["classifier.dense.bias"]
    with pytest.raises(CheckpointError, match="1 tensors do not fit.*head.hidden.bias is missing"):
        load_checkpoint(folder(state=state))
    state = weights()
    state["silence_embeds"][0] = float("nan")
    with pytest.raises(CheckpointError, match="1 tensors hold NaN or infinity, such as silence"):
        load_checkpoint(folder(state=state))
    path = folder()
    whole = (path / "model.safetensors").read_bytes()
    for content in (whole[:200], b"", struct.pack("<Q", 2**40) + whole[8:], whole[:-4]):
        (path / "model.safetensors").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"model.safetensors: cannot be read \("):
            load_checkpoint(path)
