"""YAML and ``key=value`` overrides onto a dataclass; components built from ``_target_`` nodes.

Merge order: dataclass defaults, YAML files from left to right, then overrides. A key that the
dataclass does not have is an error that names its neighbours. Two seams, the front end and the
encoder, hold a ``_target_`` class of the packages of either; their keys are checked against the
dataclass that the class names as ``config``.
"""

import difflib
import importlib
import inspect
import re
import typing
from collections.abc import Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from diarize.errors import ConfigError
from diarize.files import replacing

Config = TypeVar("Config")

COMPONENTS = ("diarize.frontend.", "diarize.encoder.")
"""Where a ``_target_`` may lie. A checkpoint brings its own, and a module runs when it is imported:
no other is."""


def load_config(
    config_class: type[Config],
    paths: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
    values: dict[str, Any] | None = None,
    section: str | None = None,
) -> Config:
    """A filled dataclass.

    Args:
        config_class: dataclass whose fields are the settings.
        paths: YAML files that hold differences from the defaults, later ones winning.
        overrides: ``key=value`` strings with dotted keys, winning over files.
        values: a plain dict merged before the files, as a checkpoint stores it.
        section: key under which a file may hold its settings instead.

    Raises:
        ConfigError: for a file that cannot be read, a key no dataclass has, or a bad value.
    """
    merged = OmegaConf.structured(config_class)
    layers: list[tuple[str, Any]] = []
    if values is not None:
        layers.append((config_class.__name__, values))
    for path in paths:
        layer = _read_yaml(Path(path))
        nested = layer.get(section) if section is not None else None
        layers.append((str(path), nested if isinstance(nested, DictConfig) else layer))
    for override in overrides:
        if "=" not in override:
            raise ConfigError(
                f"{override!r}: an override is written key=value, but there is no '='. "
                "Write for example trainer.max_steps=100."
            )
        layers.append((override, _read_override(override)))
    for where, layer in layers:
        _check_keys(where, config_class, OmegaConf.create(layer))
        try:
            merged = OmegaConf.merge(merged, layer)
        except OmegaConfBaseException as error:
            raise ConfigError(f"{where}: {_first_line(error)}") from None
    try:
        return typing.cast(Config, OmegaConf.to_object(merged))
    except MissingMandatoryValue as error:
        raise ConfigError(
            f"{config_class.__name__}: {error.full_key} is not set, but has no default. Set it."
        ) from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{config_class.__name__}: {_first_line(error)}") from None
    except ConfigError as error:
        raise ConfigError(_placed(str(error), merged, layers)) from None


def to_dict(config: Any) -> dict[str, Any]:
    """A dataclass as plain dicts, lists and scalars, as checkpoints and YAML hold it."""
    return asdict(config)


def save_config(config: Any, path: str | Path) -> None:
    """Write a dataclass as YAML."""
    with replacing(path) as unfinished:
        OmegaConf.save(OmegaConf.create(to_dict(config)), unfinished)


def check_least(config: Any, **least: float) -> None:
    """See that settings are at least so much; null is no number and passes.

    Raises:
        ConfigError: for the first that is less, or not a number.
    """
    for name, bound in least.items():
        value = getattr(config, name)
        if value is not None and not value >= bound:
            raise ConfigError(f"{name} is {value:g}, but it is at least {bound:g}. Raise it.")


def check_shares(config: Any, *names: str) -> None:
    """See that settings that say how often are from 0 to 1; null is no number and passes.

    Raises:
        ConfigError: for the first that is not.
    """
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 <= value <= 1:
            raise ConfigError(f"{name} is {value:g}, but a share is from 0 to 1. Change it.")


def check_ramp(name: str, ramp: Sequence[int]) -> None:
    """See that a setting is two steps, between which something rises.

    Raises:
        ConfigError: if it is not.
    """
    if len(ramp) != 2 or not 0 <= ramp[0] <= ramp[1]:
        raise ConfigError(
            f"{name} is {list(ramp)}, but it is 2 steps, the earlier first. Write [0, 0] for all "
            "of it from the start."
        )


def risen(ramp: Sequence[int], step: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """How far something has risen at a step, 0 to 1; evenly between the two steps of its ramp."""
    begin, end = ramp
    length = max(end - begin, 0.5)  # of none: nothing a step before its end, all at its end
    so_far: npt.NDArray[np.float64] = np.asarray(step, dtype=np.float64) - (end - length)
    return np.clip(so_far / length, 0.0, 1.0)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """See that a setting is one of a few words.

    Raises:
        ConfigError: if it is not.
    """
    if value not in choices:
        listed = f"{', '.join(choices[:-1])} or {choices[-1]}"
        raise ConfigError(f"{name} is {value!r}, but it may be {listed}. Choose one.")


def instantiate(node: dict[str, Any], **arguments: Any) -> Any:
    """Build the component that a ``_target_`` node names.

    Args:
        node: ``{"_target_": "diarize.encoder.module.Class", key: value, ...}``.
        arguments: passed to the class after its config, those that it takes.

    Raises:
        ConfigError: if the target is no front end or encoder of this package, does not exist,
            or a key is not a setting of its config class.
    """
    settings = dict(node)
    target = str(settings.pop("_target_", ""))
    component = _find_target(target)
    config_class = typing.get_type_hints(component).get("config")
    if not (isinstance(config_class, type) and is_dataclass(config_class)):
        raise ConfigError(
            f"_target_ {target!r} names no dataclass as its config, but a component has one. "
            "Name the class of a front end or an encoder."
        )
    taken = inspect.signature(component).parameters
    given = {name: value for name, value in arguments.items() if name in taken}
    return component(load_config(config_class, values=settings), **given)


def _find_target(target: str) -> type:
    module_name, _, class_name = target.rpartition(".")
    if not module_name.startswith(COMPONENTS):
        raise ConfigError(
            f"_target_ is {target!r}, but only classes of this package, 'diarize.frontend.…' and "
            "'diarize.encoder.…', may be built from YAML. Build your own component in Python and "
            "pass it to Diarizer."
        )
    try:
        found = getattr(importlib.import_module(module_name), class_name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"_target_ {target!r} cannot be found ({error}). Check its spelling."
        ) from None
    if not isinstance(found, type):
        raise ConfigError(
            f"_target_ {target!r} is {type(found).__name__!r}, but a class is needed. "
            "Check its spelling."
        )
    return found


def _read_yaml(path: Path) -> DictConfig:
    try:
        loaded = OmegaConf.load(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}). Check the path.") from None
    except Exception as error:  # PyYAML's parse errors share no public base with OmegaConf's
        raise ConfigError(f"{path}: is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(loaded, DictConfig):
        raise ConfigError(f"{path}: holds a list, but settings are 'key: value' lines.")
    return loaded


def _read_override(override: str) -> DictConfig:
    try:
        return OmegaConf.from_dotlist([override])
    except Exception as error:  # as above
        raise ConfigError(f"{override!r}: is not YAML: {' '.join(str(error).split())}") from None


def _first_line(error: OmegaConfBaseException) -> str:
    """What is wrong, after the key that it is wrong with."""
    message = str(error).splitlines()[0]
    return f"{error.full_key}: {message}" if error.full_key else message


def _placed(message: str, merged: DictConfig, layers: Sequence[tuple[str, Any]]) -> str:
    """What a dataclass says of its own values, with their dotted key and the layer that set them.

    The key is the first word of the message; the layer is the last one that sets any of the keys
    that are named before what they meet.
    """
    section, prefix = merged, ""
    while (deeper := _refused(section)) is not None:
        section, prefix = section[deeper], f"{prefix}{deeper}."
    kind = typing.cast(type, OmegaConf.get_type(section))
    message = message.removeprefix(f"{kind.__name__}: ")
    claim, _, _ = message.partition(", but ")
    keys = [str(key) for key in section]
    named = [word for word in re.findall(r"\w+", claim) if word in keys]
    if prefix and message.split()[0] in keys:
        message = prefix + message
    elif prefix:
        message = f"{prefix[:-1]}: {message}"
    for where, layer in reversed(layers):
        settings = OmegaConf.create(layer)
        chosen = (OmegaConf.select(settings, prefix + name, default=settings) for name in named)
        if any(value is not settings for value in chosen):
            return f"{where}: {message}"
    return message


def _refused(section: DictConfig) -> str | None:
    """The first key of a section under which a dataclass refuses its own values."""
    for key in section:
        if is_dataclass(OmegaConf.get_type(section, str(key))):
            try:
                OmegaConf.to_object(section[key])
            except ConfigError:
                return str(key)
    return None


def _check_keys(where: str, config_class: type, layer: Any, prefix: str = "") -> None:
    """Name the first key that a dataclass does not have, with its likely meaning."""
    hints = typing.get_type_hints(config_class)
    known = [field.name for field in fields(config_class)]
    for key in layer:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            way_out = f"Did you mean {close[0]}?" if close else f"It has: {', '.join(known)}."
            raise ConfigError(
                f"{where}: {prefix}{key} is not a setting of {config_class.__name__}. {way_out}"
            )
        value = OmegaConf.to_container(layer).get(key)  # type: ignore[union-attr]
        if isinstance(value, dict) and is_dataclass(hints[key]):
            nested = typing.cast(type, hints[key])
            _check_keys(where, nested, OmegaConf.create(value), f"{prefix}{key}.")
