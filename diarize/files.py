"""Text is read with the place of every fault; files are written whole or not at all."""

import errno
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from diarize.errors import ConfigError

_PACKAGE = Path(__file__).parent
CONF = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parent / "conf"
"""Settings that are shipped: inside the installed package, beside the checkout's."""


def named_or_path(path_or_name: str | Path, folder: str, suffix: str) -> Path:
    """The path as it is given, or, for a name without folder and ending, that of a shipped file.

    Args:
        path_or_name: either.
        folder: of ``conf/`` that holds files of this kind.
        suffix: of their names.

    Raises:
        ConfigError: if it is neither, with the names that are known.
    """
    path = Path(path_or_name)
    if path.exists() or path.suffix or len(path.parts) != 1:
        return path
    shipped = CONF / folder / f"{path_or_name}{suffix}"
    if shipped.exists():
        return shipped
    names = sorted(found.stem for found in (CONF / folder).glob(f"*{suffix}"))
    raise ConfigError(
        f"{path_or_name}: is neither a file nor a setting by name, but these are known: "
        f"{', '.join(names) or 'none'}. Give one of them, or the path of a {suffix[1:]} file."
    )


def read_bytes(path: str | Path, error: type[Exception]) -> bytes:
    """All of a file, which may be a pipe.

    Raises:
        error: if it cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as fault:
        raise error(f"{path}: cannot be read ({fault.strerror}). Check the path.") from None


def lines_of(content: bytes, path: str | Path, error: type[Exception]) -> list[str]:
    """Lines of UTF-8 text without their line ends; a byte order mark is passed over.

    Args:
        content: of the file.
        path: the file, for messages.
        error: what to raise.

    Raises:
        error: if it holds bytes that are no UTF-8.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        number = content.count(b"\n", 0, fault.start) + 1
        raise error(f"{path}:{number}: is not UTF-8 text. Save the file as UTF-8.") from None
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n")


def read_lines(path: str | Path, error: type[Exception]) -> list[str]:
    """Lines of a UTF-8 text file, as `lines_of` has them.

    Raises:
        error: if the file cannot be read, or holds bytes that are no UTF-8.
    """
    return lines_of(read_bytes(path, error), path, error)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A path to write to, moved onto ``path`` when the block ends and removed if it fails.

    A symbolic link stays one and its target is replaced; what is no regular file
    (``/dev/stdout``, a named pipe) is handed out as it is.

    Raises:
        OSError: if it cannot be written, naming ``path``; for want of a folder before the block
            is run.
    """
    place = Path(path).resolve()
    if place.exists() and not place.is_file():
        yield place
        return
    if not place.parent.is_dir():
        raise FileNotFoundError(
            errno.ENOENT, f"there is no folder {place.parent} to hold it. Make it first", str(path)
        )
    beside = place.with_name(f".{place.name[:80]}.{uuid.uuid4().hex[:12]}.tmp")
    try:
        yield beside
        os.replace(beside, place)
    except OSError as error:
        if error.filename in (None, str(beside)) and not isinstance(error, BrokenPipeError):
            error.filename = str(path)
        raise
    finally:
        beside.unlink(missing_ok=True)


def in_words(error: OSError) -> str:
    """What the system refused and where, as a sentence."""
    where = f"{error.filename}: " if error.filename is not None else ""
    return f"{where}{error.strerror or error}."


def write_text(destination: str | Path | TextIO, text: str) -> None:
    """Write UTF-8 text to an open stream, or to a path as a whole."""
    if not isinstance(destination, (str, Path)):
        destination.write(text)
        return
    with replacing(destination) as path:
        path.write_text(text, encoding="utf-8", newline="\n")
