"""NeMo's archives of Sortformer: their settings and tensors, by our names.

A ``.nemo`` file is a tar archive, compressed or not, of ``model_config.yaml`` and
``model_weights.ckpt``, a flat dict of tensors. Both are read into memory by name; nothing is
extracted, and nothing is unpickled but tensors.
"""

import io
import pickle
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from diarize.errors import CheckpointError
from diarize.latency import DEFAULT, LATENCIES, StreamingConfig, format_latency

CONFIG = "model_config.yaml"
WEIGHTS = "model_weights.ckpt"

MOST_COMPRESSED = 20
"""How many times its size an archive may unpack to; weights hardly shrink."""

TARGET = "SortformerEncLabelModel"
"""The class of all published Sortformers."""

UNUSED = "sortformer_modules.hidden_to_spks."
"""In every archive, without a part in the network."""


@dataclass(frozen=True)
class Archive:
    """What an archive holds.

    Attributes:
        diarizer: settings as `DiarizerConfig` takes them.
        tensors: by their names in `Diarizer.state_dict`; those that it does not know keep theirs.
        inference: keys of `InferenceConfig`.
        card: facts about its making.
    """

    diarizer: dict[str, Any]
    tensors: dict[str, Tensor]
    inference: dict[str, Any]
    card: dict[str, Any]


KNOWN: dict[str, tuple[Any, ...]] = {
    "preprocessor.window": ("hann",),
    "preprocessor.frame_splicing": (1,),
    "preprocessor.normalize": ("per_feature", "NA", None),
    "preprocessor.mag_power": (2.0,),
    "preprocessor.log": (True,),
    "preprocessor.log_zero_guard_type": ("add",),
    "preprocessor.log_zero_guard_value": (2.0**-24,),
    "preprocessor.exact_pad": (False,),
    "encoder.subsampling": ("dw_striding",),
    "encoder.subsampling_factor": (8,),
    "encoder.reduction": (None,),
    "encoder.causal_downsampling": (False,),
    "encoder.self_attention_model": ("rel_pos",),
    "encoder.untie_biases": (True,),
    "encoder.conv_context_size": (None,),
    "encoder.conv_norm_type": ("batch_norm", "layer_norm"),
    "sortformer_modules.spkcache_sil_frames_per_spk": (3,),
    "sortformer_modules.pred_score_threshold": (0.25,),
    "sortformer_modules.scores_boost_latest": (0.05,),
    "sortformer_modules.sil_threshold": (0.2,),
    "sortformer_modules.strong_boost_rate": (0.75,),
    "sortformer_modules.weak_boost_rate": (1.5,),
    "sortformer_modules.min_pos_scores_rate": (0.5,),
    "transformer_encoder.hidden_act": ("relu", "gelu"),
    "transformer_encoder.pre_ln": (False,),
    "transformer_encoder.mask_future": (False,),
}
"""Settings that decide how the network is built, and the values that ours can be built with. What
an archive leaves out is as in the published ones."""

LAYER = {
    "norm_feed_forward1": "norm_first",
    "feed_forward1.linear1": "feed_forward_first.expand",
    "feed_forward1.linear2": "feed_forward_first.project",
    "norm_self_att": "norm_attention",
    "self_attn.linear_q": "attention.query",
    "self_attn.linear_k": "attention.key",
    "self_attn.linear_v": "attention.value",
    "self_attn.linear_pos": "attention.position",
    "self_attn.linear_out": "attention.output",
    "self_attn.pos_bias_u": "attention.content_bias",
    "self_attn.pos_bias_v": "attention.position_bias",
    "norm_conv": "norm_convolution",
    "conv.pointwise_conv1": "convolution.expand",
    "conv.depthwise_conv": "convolution.depthwise",
    "conv.batch_norm": "convolution.norm",
    "conv.pointwise_conv2": "convolution.project",
    "norm_feed_forward2": "norm_second",
    "feed_forward2.linear1": "feed_forward_second.expand",
    "feed_forward2.linear2": "feed_forward_second.project",
    "norm_out": "norm_output",
}
SUBSAMPLING = {
    "conv.0": "first",
    "conv.2": "second_depthwise",
    "conv.3": "second_pointwise",
    "conv.5": "third_depthwise",
    "conv.6": "third_pointwise",
    "out": "output",
}
BLOCK = {
    "first_sub_layer.query_net": "query",
    "first_sub_layer.key_net": "key",
    "first_sub_layer.value_net": "value",
    "first_sub_layer.out_projection": "output",
    "layer_norm_1": "norm_attention",
    "second_sub_layer.dense_in": "expand",
    "second_sub_layer.dense_out": "project",
    "layer_norm_2": "norm_feed_forward",
}
HEAD = {
    "encoder_proj": "projection",
    "first_hidden_to_hidden": "head.hidden",
    "single_hidden_to_spks": "head.output",
}
NAMES = {
    "preprocessor.featurizer.": ("front_end.mel.", {"window": "window", "fb": "filter_bank"}),
    "encoder.pre_encode.": ("front_end.subsampling.", SUBSAMPLING),
    "encoder.layers.": ("front_end.layers.", LAYER),
    "transformer_encoder.layers.": ("encoder.layers.", BLOCK),
    "sortformer_modules.": ("", HEAD),
}
"""Their prefix, ours, and what stands for what between prefix and the last part of a name; behind
``layers.`` the number of the layer comes first."""


def read_nemo(path: Path) -> Archive:
    """What an archive holds.

    Args:
        path: of a ``.nemo`` file.

    Raises:
        CheckpointError: if it is damaged, unsafe, or no Sortformer that can be built here.
    """
    config, weights = _unpack(path)
    try:
        settings: Any = OmegaConf.to_container(OmegaConf.create(config.decode()), resolve=True)
    except Exception as error:  # PyYAML's parse errors share no public base with OmegaConf's
        raise CheckpointError(
            f"{path}: its {CONFIG} is not YAML: {' '.join(str(error).split())}"
        ) from None
    if not isinstance(settings, dict) or not str(settings.get("target", TARGET)).endswith(TARGET):
        found = settings.get("target") if isinstance(settings, dict) else type(settings).__name__
        raise CheckpointError(
            f"{path}: holds a {found}, but only Sortformers ({TARGET}) are diarizers. "
            "Give another archive."
        )
    streaming = bool(settings.get("streaming_mode", False))
    try:
        diarizer = _diarizer(path, settings, streaming)
        inference = _inference(settings["sortformer_modules"]) if streaming else {}
        generation = "v2" if streaming else "v1"
        inference["presets"] = {name: f"{generation}_{name}" for name in ("dihard3", "callhome")}
    except CheckpointError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: its {CONFIG} cannot be understood ({type(error).__name__}: {error}). "
            "Is it a Sortformer's?"
        ) from None
    version = settings.get("nemo_version", "of unknown version")
    return Archive(diarizer, _tensors(path, weights), inference, {"source": f"NeMo {version}"})


def _unpack(path: Path) -> tuple[bytes, bytes]:
    """The bytes of the settings and of the weights."""
    found: dict[str, bytes] = {}
    try:
        most = MOST_COMPRESSED * path.stat().st_size
        with tarfile.open(path) as archive:
            for member in archive:
                name = PurePosixPath(member.name)
                if (
                    name.is_absolute()
                    or ".." in name.parts
                    or not (member.isreg() or member.isdir())
                ):
                    raise CheckpointError(
                        f"{path}: {member.name!r} points out of the archive or is no plain file, "
                        "but a model needs neither. Get the archive from its publisher."
                    )
                if str(name) not in (CONFIG, WEIGHTS):
                    continue
                if member.size > most:
                    raise CheckpointError(
                        f"{path}: {member.name!r} says that it has {member.size} bytes, but the "
                        f"archive has {most // MOST_COMPRESSED}. Get it anew."
                    )
                content = archive.extractfile(member)
                assert content is not None
                found[str(name)] = content.read()
    except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
        reason = str(error).partition("\n")[0].rstrip(":")
        raise CheckpointError(
            f"{path}: is no whole tar archive ({reason}), but a .nemo file is one. Get it anew."
        ) from None
    for needed in (CONFIG, WEIGHTS):
        if needed not in found:
            raise CheckpointError(
                f"{path}: has no {needed}, but a .nemo archive has {CONFIG} and {WEIGHTS}. "
                "Get it anew."
            )
    return found[CONFIG], found[WEIGHTS]


def _diarizer(path: Path, settings: dict[str, Any], streaming: bool) -> dict[str, Any]:
    """Their settings as ours."""
    for key, known in KNOWN.items():
        section, setting = key.split(".")
        value = settings[section].get(setting, known[0])
        if value not in known:
            listed = " or ".join(map(repr, known))
            raise CheckpointError(
                f"{path}: {key} is {value!r}, but only {listed} can be built here. "
                "Give another archive."
            )
    mel, encoder = settings["preprocessor"], settings["encoder"]
    transformer, modules = settings["transformer_encoder"], settings["sortformer_modules"]
    rate = int(mel["sample_rate"])
    return {
        "front_end": {
            "_target_": "diarize.frontend.fastconformer.FastConformer",
            "mel": {
                "sample_rate": rate,
                "num_mels": mel["features"],
                "window_samples": round(mel["window_size"] * rate),
                "hop_samples": round(mel["window_stride"] * rate),
                "num_fft": mel["n_fft"],
                "pre_emphasis": mel.get("preemph", 0.97),
                "dither": mel.get("dither", 1e-5),
                "normalization": "per_feature" if mel["normalize"] == "per_feature" else "none",
                "peak_scaling": "none" if streaming else "item",
            },
            "width": encoder["d_model"],
            "num_layers": encoder["n_layers"],
            "num_heads": encoder["n_heads"],
            "subsampling_channels": encoder["subsampling_conv_channels"],
            "expansion": encoder.get("ff_expansion_factor", 4),
            "conv_kernel": encoder["conv_kernel_size"],
            "conv_norm": encoder.get("conv_norm_type", "batch_norm"),
            "input_scaling": encoder.get("xscaling", True),
            "input_dropout": encoder.get("dropout_pre_encoder", 0.1),
            "attention_dropout": encoder.get("dropout_att", 0.1),
            "attention_context": _context(path, encoder.get("att_context_size")),
            "dropout": encoder.get("dropout", 0.1),
        },
        "encoder": {
            "_target_": "diarize.encoder.transformer.Transformer",
            "width": transformer["hidden_size"],
            "inner": transformer["inner_size"],
            "num_layers": transformer["num_layers"],
            "num_heads": transformer["num_attention_heads"],
            "activation": transformer.get("hidden_act", "relu"),
            "attention_dropout": transformer.get("attn_score_dropout", 0.5),
            "dropout": transformer.get("ffn_dropout", 0.5),
        },
        "num_slots": modules.get("num_spks", 4),
        "head_dropout": modules.get("dropout_rate", 0.5),
    }


def _inference(modules: dict[str, Any]) -> dict[str, Any]:
    """How far a streaming model sees and what it keeps, unless it is told otherwise."""
    theirs = {
        "chunk": "chunk_len",
        "left": "chunk_left_context",
        "right": "chunk_right_context",
        "fifo": "fifo_len",
        "cache": "spkcache_len",
        "update": "spkcache_update_period",
    }
    config = StreamingConfig(
        **{ours: modules[name] for ours, name in theirs.items() if name in modules}
    )
    return {"latency": DEFAULT, "latencies": {**LATENCIES, DEFAULT: format_latency(config)}}


def _context(path: Path, sizes: Any) -> int | None:
    """Frames seen to either side; -1 is all of them."""
    left, right = sizes or (-1, -1)
    if left != right:
        raise CheckpointError(
            f"{path}: encoder.att_context_size is {sizes}, but only as many frames before as after "
            "can be looked at here. Give another archive."
        )
    return None if left < 0 else int(left)


def _tensors(path: Path, weights: bytes) -> dict[str, Tensor]:
    try:
        with zipfile.ZipFile(io.BytesIO(weights)) as records:  # torch looks at no checksum
            damaged = records.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} is damaged")
        state = torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        reason, *_ = str(error).splitlines() or ["it ends too soon"]
        raise CheckpointError(
            f"{path}: its {WEIGHTS} cannot be read as tensors ({reason}). Get the archive anew."
        ) from None
    if not isinstance(state, dict) or not all(isinstance(t, Tensor) for t in state.values()):
        raise CheckpointError(f"{path}: its {WEIGHTS} is no dict of tensors. Get the archive anew.")
    return dict(
        named(name, tensor) for name, tensor in state.items() if not name.startswith(UNUSED)
    )


def named(name: str, tensor: Tensor) -> tuple[str, Tensor]:
    """Our name and shape of a tensor; one that we do not know keeps its own.

    Convolutions of one frame are linear maps here.
    """
    for prefix, (ours, inside) in NAMES.items():
        if not name.startswith(prefix):
            continue
        rest = name.removeprefix(prefix)
        if prefix.endswith("layers."):
            number, _, rest = rest.partition(".")
            ours += f"{number}."
        stem, _, last = rest.rpartition(".")
        if rest in inside:
            found = ours + inside[rest]
        elif stem in inside:
            found = f"{ours}{inside[stem]}.{last}"
        else:
            break
        if found.endswith((".convolution.expand.weight", ".convolution.project.weight")):
            tensor = tensor.squeeze(-1)
        elif found == "front_end.mel.filter_bank":
            tensor = tensor.squeeze(0)
        return found, tensor
    return name, tensor
