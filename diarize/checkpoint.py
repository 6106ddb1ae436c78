"""Trained models on disk: a folder with ``model.safetensors`` and ``config.yaml``.

``config.yaml`` holds ``diarizer`` (the settings it is rebuilt from), ``postprocess`` and
``inference`` (how it is best run) and ``card`` (where it comes from). Training checkpoints,
experiment folders, NeMo's archives of Sortformer and Nemotron-3's folders load as well, and by its
name on Hugging Face what is published there. Nothing is unpickled but tensors and plain values.
"""

import pickle
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from omegaconf import OmegaConf
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from diarize.config import load_config, to_dict
from diarize.errors import CheckpointError, ConfigError
from diarize.experiment import differences
from diarize.files import replacing
from diarize.hub import fetch, is_name
from diarize.model import Diarizer, DiarizerConfig
from diarize.nemo import Archive, read_nemo
from diarize.nemotron import is_nemotron, read_nemotron
from diarize.slots import ROWS, more_slots

WEIGHTS = Path(__file__).parent / "weights"
"""Where packaged models lie."""

PRIOR = "front_end.mel.heard"
"""What models with a prior have heard in training: a run may begin without, and notes it then."""

SECTIONS = ("diarizer", "postprocess", "inference", "card")


@dataclass(frozen=True)
class Checkpoint:
    """A trained model as stored.

    Attributes:
        path: the file or folder it was read from.
        diarizer: settings, as a plain dict.
        tensors: by their names in `Diarizer.state_dict`.
        postprocess: keys of `PostprocessConfig`.
        inference: keys of `InferenceConfig`.
        card: facts about its making.
        voices: training speaker to class weight (D,), of training checkpoints that told voices
            apart; empty otherwise.
    """

    path: Path
    diarizer: dict[str, Any]
    tensors: dict[str, Tensor]
    postprocess: dict[str, Any]
    inference: dict[str, Any]
    card: dict[str, Any]
    voices: dict[str, Tensor] = field(default_factory=dict)


def packaged_models() -> list[str]:
    """Names of the models that come with this package."""
    return sorted(path.parent.name for path in WEIGHTS.glob("*/config.yaml"))


def load_checkpoint(name_or_path: str | Path = "default") -> Diarizer:
    """A trained model in evaluation mode, float32, on the CPU.

    Args:
        name_or_path: a packaged model's name; a native folder; a training checkpoint, ``*.ckpt``;
            an experiment folder, whose ``checkpoints/best.ckpt`` is taken, or ``last.ckpt``
            where nothing was validated; a NeMo archive, ``*.nemo``; Nemotron-3's folder, with
            ``config.json`` and ``model.safetensors``; or ``owner/name`` on Hugging Face,
            ``@revision`` behind it if need be, which is fetched once.

    Raises:
        CheckpointError: if there is none, it cannot be read, or its tensors do not fit.
    """
    return build(read_checkpoint(name_or_path))


def build(checkpoint: Checkpoint) -> Diarizer:
    """The model that is stored, in evaluation mode, float32, on the CPU.

    Raises:
        CheckpointError: if it cannot be rebuilt, or its tensors do not fit.
    """
    try:
        with torch.device("meta"):  # shapes alone: what does not fit costs no memory
            diarizer = Diarizer(load_config(DiarizerConfig, values=checkpoint.diarizer))
    except ConfigError as error:
        raise CheckpointError(f"{checkpoint.path}: cannot be rebuilt. {error}") from None
    expected = diarizer.state_dict()
    faults = _misfits(expected, checkpoint.tensors)
    if faults:
        raise CheckpointError(
            f"{checkpoint.path}: {len(faults)} tensors do not fit the settings stored with them: "
            f"{'; '.join(faults)}. Was it written by another version?"
        )
    unsound = [n for n, t in checkpoint.tensors.items() if not t.isfinite().all()]
    if unsound:
        raise CheckpointError(
            f"{checkpoint.path}: {len(unsound)} tensors hold NaN or infinity, such as "
            f"{unsound[0]}. Get the checkpoint anew."
        )
    tensors = {  # laid out as they are stored, since the last bit of a product depends on it
        name: checkpoint.tensors[name].to(own.dtype).contiguous() for name, own in expected.items()
    }
    diarizer.load_state_dict(tensors, assign=True)
    diarizer.postprocess = checkpoint.postprocess
    diarizer.inference = checkpoint.inference
    return diarizer.eval()


def initialize(diarizer: Diarizer, checkpoint: Checkpoint) -> list[str]:
    """Start a model from another's front end, and from all else that fits.

    Where the model has more slots, the first ones are the other's, see `more_slots`.

    Args:
        diarizer: changed in place.
        checkpoint: where to start from.

    Returns:
        Names of the tensors that were left as they are, since the checkpoint has none that fit.

    Raises:
        CheckpointError: if a tensor of the front end is missing, but for its prior, or of another
            shape.
    """
    expected = diarizer.state_dict()
    fitting = {
        name: tensor
        for name, tensor in checkpoint.tensors.items()
        if name in expected and expected[name].shape == tensor.shape
    }
    for name, own in expected.items():
        known = checkpoint.tensors.get(name)
        if known is not None and ROWS.match(name) and len(known) < len(own):
            if known.shape[1:] == own.shape[1:]:
                fitting[name] = more_slots(known, len(own))
    front_end = {
        name: own
        for name, own in expected.items()
        if name.startswith("front_end.") and (name != PRIOR or name in checkpoint.tensors)
    }
    faults = _misfits(front_end, {n: t for n, t in checkpoint.tensors.items() if n in front_end})
    if faults:
        raise CheckpointError(
            f"{checkpoint.path}: {len(faults)} tensors of the front end do not fit this model: "
            f"{'; '.join(faults)}. Give both the same front end."
        )
    diarizer.load_state_dict(fitting, strict=False)
    return [name for name in expected if name not in fitting]


def average(checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """The mean of the weights of a run's checkpoints; all else is the last one's.

    Args:
        checkpoints: one or more.

    Raises:
        CheckpointError: if they are not of one model.
    """
    *others, last = checkpoints
    for other in others:
        faults = differences(other.diarizer, last.diarizer) or _misfits(last.tensors, other.tensors)
        if faults:
            raise CheckpointError(
                f"{other.path}: has {'; '.join(faults[:3])}, but {last.path} is averaged with it. "
                "Give checkpoints of one run."
            )
    tensors = {
        name: torch.stack([c.tensors[name].double() for c in checkpoints]).mean(0).to(tensor.dtype)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in last.tensors.items()
    }
    card = last.card | {"average_of": [str(c.path) for c in checkpoints]}
    return replace(last, tensors=tensors, card=card)


def save_checkpoint(
    diarizer: Diarizer,
    folder: str | Path,
    dtype: torch.dtype = torch.float32,
    card: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Write a model as a native folder; each file is replaced as a whole.

    Args:
        diarizer: model with its ``postprocess`` and ``inference`` settings.
        folder: made if need be.
        dtype: how parameters are stored; ``torch.float16`` halves the file. Buffers (the filter
            bank, running statistics) are stored as they are.
        card: facts about the model's making, plain values.

    Returns:
        The folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parameters = dict(diarizer.named_parameters())
    tensors = {
        name: tensor.to("cpu", dtype if name in parameters else tensor.dtype).contiguous()
        for name, tensor in diarizer.state_dict().items()
    }
    with replacing(folder / "model.safetensors") as path:
        path.write_bytes(save(tensors))  # save_file would let nobody else read it
    sections = (to_dict(diarizer.config), diarizer.postprocess, diarizer.inference, dict(card))
    with replacing(folder / "config.yaml") as path:
        OmegaConf.save(OmegaConf.create(dict(zip(SECTIONS, sections, strict=True))), path)
    return folder


def read_checkpoint(name_or_path: str | Path) -> Checkpoint:
    """What is stored, before a model is built from it.

    Raises:
        CheckpointError: if there is no such checkpoint, or it cannot be read.
    """
    path = _find(name_or_path)
    if path.suffix == ".nemo":
        return _read_published(path, read_nemo(path))
    if path.suffix == ".ckpt":
        return _read_training(path)
    if (path / "config.yaml").is_file():
        return _read_native(path)
    return _read_published(path, read_nemotron(path))


def _find(name_or_path: str | Path) -> Path:
    names = packaged_models()
    if str(name_or_path) in names:
        return WEIGHTS / str(name_or_path)
    path = Path(name_or_path)
    if path.suffix in (".ckpt", ".nemo") and path.is_file():
        return path
    if all((path / name).is_file() for name in ("config.yaml", "model.safetensors")):
        return path
    if is_nemotron(path):
        return path
    for name in ("best.ckpt", "last.ckpt"):
        if (path / "checkpoints" / name).is_file():
            return path / "checkpoints" / name
    known = f"packaged models are: {', '.join(names)}" if names else "no model is packaged"
    if not path.exists():
        if is_name(str(name_or_path)):
            return fetch(str(name_or_path))
        raise CheckpointError(
            f"{name_or_path}: is no packaged model, file or folder; {known}. Check the name."
        )
    raise CheckpointError(
        f"{path}: holds neither model.safetensors with config.yaml or config.json nor "
        f"checkpoints/best.ckpt, and is no .ckpt or .nemo file; {known}. Give a checkpoint."
    )


def _read_published(path: Path, archive: Archive) -> Checkpoint:
    return Checkpoint(path, archive.diarizer, archive.tensors, {}, archive.inference, archive.card)


def _read_native(folder: Path) -> Checkpoint:
    try:
        config = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
    except Exception as error:  # PyYAML's parse errors share no public base with OmegaConf's
        raise CheckpointError(
            f"{folder / 'config.yaml'}: is not YAML: {' '.join(str(error).split())}"
        ) from None
    if not isinstance(config, dict) or "diarizer" not in config:
        raise CheckpointError(
            f"{folder / 'config.yaml'}: has no 'diarizer', but a model is rebuilt from it. "
            "Is it a checkpoint's?"
        )
    for section in SECTIONS:
        if not isinstance(config.get(section) or {}, dict):
            raise CheckpointError(
                f"{folder / 'config.yaml'}: {section!r} is a {type(config[section]).__name__}, but "
                "it holds settings by name. Copy the checkpoint again."
            )
    if "${" in str(config):  # which would be filled in, from the environment for one
        raise CheckpointError(
            f"{folder / 'config.yaml'}: holds '${{', but a checkpoint's values are plain. "
            "Write them out."
        )
    try:
        tensors = load_file(folder / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder / 'model.safetensors'}: cannot be read ({error}). Copy the checkpoint again."
        ) from None
    return Checkpoint(folder, tensors=tensors, **{key: config.get(key) or {} for key in SECTIONS})


def _read_training(path: Path) -> Checkpoint:
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
        values, state = stored["hyper_parameters"], stored["state_dict"]
        diarizer = dict(values["diarizer_config"])
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        # What torch says of a file of 0 bytes is nothing.
        reason, *_ = str(error).splitlines() or ["it ends too soon"]
        raise CheckpointError(f"{path}: cannot be read ({reason}). Is the file whole?") from None
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path}: has no {error}, but checkpoints of `diarize train` have. "
            "Was it written by another program?"
        ) from None
    prefix = "diarizer."
    return Checkpoint(
        path,
        diarizer=diarizer,
        tensors={n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)},
        postprocess=dict(values.get("postprocess") or {}),
        inference=dict(values.get("inference") or {}),
        card={},
        voices=dict(zip(values.get("voices", ()), state.get("voices.weight", ()), strict=False)),
    )


def _misfits(expected: dict[str, Tensor], found: dict[str, Tensor]) -> list[str]:
    """What keeps tensors from being loaded, one line each."""
    missing = [f"{name} is missing" for name in expected if name not in found]
    extra = [f"{name} is not in the model" for name in found if name not in expected]
    misshapen = [
        f"{name} is {tuple(found[name].shape)}, but the model's is {tuple(own.shape)}"
        for name, own in expected.items()
        if name in found and found[name].shape != own.shape
    ]
    return missing + extra + misshapen
