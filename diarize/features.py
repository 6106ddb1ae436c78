"""Rows of an array of features, without the rest of it: ``.npy``, and ``.npz`` with one array.

An array is (row, dim). A file is never unpickled and never held whole; of a compressed ``.npz``,
what stands before a span is decompressed on the way to it.
"""

import lzma
import os
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from diarize.errors import FeatureError

NAMED = "features"
"""The array that is taken of an ``.npz`` with several."""

DAMAGE = (
    EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, UnicodeDecodeError, RuntimeError,
)  # fmt: skip
"""What an archive raises that is cut off, altered or locked."""

BLOCK_BYTES = 1 << 24
"""Read at once where a whole file is looked through."""


@dataclass(frozen=True)
class FeatureInfo:
    """What the header of an array says.

    Attributes:
        rows: number of rows.
        dim: numbers in each.
        dtype: as they are stored.
    """

    rows: int
    dim: int
    dtype: "np.dtype[Any]"


def feature_info(path: str | Path) -> FeatureInfo:
    """Rows and width of an array, from its header.

    Raises:
        FeatureError: if the file is missing or holds no features.
    """
    with _open(Path(path)) as array:
        return array.info


def read_features(
    path: str | Path, first: int, count: int, frame_shift: float
) -> NDArray[np.float32]:
    """Rows [first, first + count) of an array.

    Args:
        path: the array.
        first: index of the first row.
        count: number of rows.
        frame_shift: seconds per row, for messages.

    Returns:
        (row, dim) float32.

    Raises:
        FeatureError: if the file cannot be read, has fewer rows, or a row that is not finite.
    """
    with _open(Path(path)) as array:
        if first < 0 or count < 0 or first + count > array.info.rows:
            raise FeatureError(
                f"{path}: rows {first} to {first + count} are asked for, but there are "
                f"{array.info.rows}. Shorten the span or check the file."
            )
        return array.read(first, count, frame_shift)


def check_features(path: str | Path, frame_shift: float) -> None:
    """Read all of an array, block by block, as `read_features` would.

    Raises:
        FeatureError: at the first row that cannot be used.
    """
    with _open(Path(path)) as array:
        info = array.info
        step = max(BLOCK_BYTES // (info.dim * info.dtype.itemsize), 1)
        for first in range(0, info.rows, step):
            array.read(first, min(step, info.rows - first), frame_shift)


@dataclass(frozen=True)
class _Array:
    """An open file, and where its numbers stand."""

    path: Path
    file: IO[bytes]
    info: FeatureInfo
    start: int
    by_column: bool

    def read(self, first: int, count: int, frame_shift: float) -> NDArray[np.float32]:
        rows, dim, dtype = self.info.rows, self.info.dim, self.info.dtype
        if self.by_column:
            columns = [self._numbers(column * rows + first, count) for column in range(dim)]
            stored = np.stack(columns, axis=1)
        else:
            stored = self._numbers(first * dim, count * dim).reshape(count, dim)
        with np.errstate(over="ignore"):
            features = stored.astype(np.float32)
        finite = np.isfinite(features)
        if not finite.all():
            row = int(np.argmin(finite.all(axis=1)))
            raise FeatureError(
                f"{self.path}: row {first + row} ({(first + row) * frame_shift:.2f} s) holds "
                f"{stored[row, int(np.argmin(finite[row]))]:g}, but features are finite numbers "
                f"in {np.dtype(np.float32)}. Mend what made them{_as_wide(dtype)}."
            )
        return features

    def _numbers(self, first: int, count: int) -> NDArray[Any]:
        size = self.info.dtype.itemsize
        self.file.seek(self.start + first * size)
        found = self.file.read(count * size)
        if len(found) < count * size:
            raise FeatureError(
                f"{self.path}: {count * size} bytes are sought at {self.start + first * size}, "
                f"but there are {len(found)}. Is the file cut off?"
            )
        return np.frombuffer(found, self.info.dtype)


def _as_wide(dtype: "np.dtype[Any]") -> str:
    return ", or scale them down" if dtype.itemsize > 4 else ""


@contextmanager
def _open(path: Path) -> Iterator[_Array]:
    """The array of a file; whatever fails while it is open is told in one line."""
    try:
        with ExitStack() as opened:
            file: IO[bytes] = opened.enter_context(path.open("rb"))
            size = os.fstat(file.fileno()).st_size
            begins = file.read(4)
            file.seek(0)
            if begins[:2] == b"PK":
                archive = opened.enter_context(zipfile.ZipFile(file))
                member = archive.getinfo(_member(path, archive.namelist()))
                file, size = opened.enter_context(archive.open(member)), member.file_size
            elif begins != npy.MAGIC_PREFIX[:4]:
                raise FeatureError(
                    f"{path}: {_beginning(begins)}, but an array is a .npy or .npz file. Write it "
                    "with numpy.save."
                )
            yield _array(path, file, size)
    except OSError as error:
        raise FeatureError(
            f"{path}: cannot be read ({error.strerror or error}). Check the path."
        ) from None
    except DAMAGE as error:
        raise FeatureError(
            f"{path}: cannot be read as an array ({error}). Is the file cut off or damaged?"
        ) from None


def _beginning(begins: bytes) -> str:
    return f"begins with {begins!r}" if begins else "is empty"


def _member(path: Path, names: list[str]) -> str:
    """Name of the one array of an archive, or of the one that is called ``features``."""
    if f"{NAMED}.npy" in names:
        return f"{NAMED}.npy"
    if len(names) != 1:
        listed = ", ".join(repr(name.removesuffix(".npy")) for name in names[:3])
        raise FeatureError(
            f"{path}: holds {len(names)} arrays{': ' if names else ''}{listed}"
            f"{', ...' if len(names) > 3 else ''}, but one is needed. Keep one, or name it "
            f"{NAMED!r}."
        )
    return names[0]


def _array(path: Path, file: IO[bytes], size: int) -> _Array:
    """An array whose header was seen to fit."""
    try:
        version = npy.read_magic(file)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, by_column, dtype = read(file)
    except (ValueError, tokenize.TokenError) as error:  # numpy parses headers as Python
        reason = str(error).splitlines()[0]
        raise FeatureError(
            f"{path}: its header cannot be read ({reason}). Is the file damaged?"
        ) from None
    if len(shape) != 2:
        raise FeatureError(
            f"{path}: has shape {shape}, but features are (row, dim). Reshape the array: a row "
            "for each step of time."
        )
    if dtype.kind != "f" or dtype.itemsize not in (2, 4, 8):
        raise FeatureError(
            f"{path}: holds {dtype}, but features are float16, float32 or float64. Convert the "
            "array, as in array.astype('float32')."
        )
    rows, dim = shape
    if rows < 1 or dim < 1:
        raise FeatureError(
            f"{path}: has {rows} rows of {dim} numbers, but there is at least 1 of each. Leave it "
            "out."
        )
    start = file.tell()
    if start + rows * dim * dtype.itemsize > size:
        raise FeatureError(
            f"{path}: its header promises {rows} rows, but there are only "
            f"{max(size - start, 0) // (dim * dtype.itemsize)}. Is the file cut off?"
        )
    return _Array(path, file, FeatureInfo(rows, dim, dtype), start, by_column)
