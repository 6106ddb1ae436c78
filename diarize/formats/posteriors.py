"""Posteriors of a session on disk: what `diarize infer --posteriors` leaves, and who made it."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from diarize.errors import PosteriorError
from diarize.files import replacing

KEYS = ("posterior", "frame_shift", "offset", "duration")
"""Arrays that the file of a session holds; ``made_by``, JSON text, may stand beside them."""


@dataclass(frozen=True)
class Posteriors:
    """What a model says of one session, before any threshold.

    Attributes:
        posterior: (frame, slot) float32, 0 to 1; frame t starts at offset + t * frame_shift.
        frame_shift: seconds per frame.
        offset: where the session starts in its recording, seconds.
        duration: seconds.
        made_by: the model and its settings, plain values; empty where nobody says.
    """

    posterior: npt.NDArray[np.float32]
    frame_shift: float
    offset: float
    duration: float
    made_by: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


def write_posteriors(path: Path, posteriors: Posteriors) -> None:
    """Write them as ``.npz``, whole or not at all; a memory-mapped posterior is not read first."""
    arrays = {key: getattr(posteriors, key) for key in KEYS}
    with replacing(path) as place, place.open("wb") as file:
        np.savez(file, **arrays, made_by=json.dumps(dict(posteriors.made_by)))


def read_posteriors(path: Path) -> Posteriors:
    """What `write_posteriors` wrote, or another tool in its way.

    Raises:
        PosteriorError: if it cannot be read, lacks an array, or holds what is no posterior.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except OSError as error:
        raise PosteriorError(
            f"{path}: cannot be read ({error.strerror}). Check the path."
        ) from None
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise PosteriorError(
            f"{path}: is no .npz file of plain arrays ({error}). Write it with "
            "`diarize infer --posteriors`."
        ) from None
    lacking = [key for key in KEYS if key not in arrays]
    if lacking:
        raise PosteriorError(
            f"{path}: holds {', '.join(arrays) or 'nothing'}, but no {lacking[0]}. Write it anew "
            "with `diarize infer --posteriors`, or add the array."
        )
    posterior = arrays.pop("posterior")
    frame_shift, offset, duration = (_number(path, key, arrays[key]) for key in KEYS[1:])
    if posterior.ndim != 2 or posterior.dtype.kind not in "fiu":
        raise PosteriorError(
            f"{path}: posterior is {posterior.dtype} of shape {posterior.shape}, but numbers of "
            "shape (frame, slot) are needed. Take one session at a time."
        )
    posterior = posterior.astype(np.float32, copy=False)
    # NaN fails as well.
    if posterior.size and not np.all((posterior > -1e-3) & (posterior < 1 + 1e-3)):
        frame = int(np.argmin(np.all((posterior > -1e-3) & (posterior < 1 + 1e-3), axis=1)))
        raise PosteriorError(
            f"{path}: frame {frame} ({frame * frame_shift:.2f} s) holds {posterior[frame]}, but a "
            "posterior lies between 0 and 1. Apply the sigmoid to logits, and look for NaN."
        )
    length = len(posterior) * frame_shift
    if not frame_shift > 0 or abs(length - duration) > frame_shift + 1e-6:
        raise PosteriorError(
            f"{path}: {len(posterior)} frames of {frame_shift:g} s last {length:.2f} s, but the "
            f"session lasts {duration:.2f} s. Write it anew with `diarize infer --posteriors`."
        )
    return Posteriors(posterior, frame_shift, offset, duration, _facts(path, arrays))


def _number(path: Path, key: str, array: npt.NDArray[Any]) -> float:
    if array.shape != () or array.dtype.kind not in "fiu" or not np.isfinite(array):
        raise PosteriorError(
            f"{path}: {key} is {array}, but one number, in seconds, is needed. Write it anew "
            "with `diarize infer --posteriors`."
        )
    return float(array)


def _facts(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    try:
        facts = json.loads(str(arrays.get("made_by", "{}")))
    except json.JSONDecodeError:
        facts = None
    if not isinstance(facts, dict):
        raise PosteriorError(
            f"{path}: made_by is {str(arrays['made_by'])[:40]!r}, but JSON with names and values "
            "is needed. Leave it out, or write it anew with `diarize infer --posteriors`."
        )
    return facts
