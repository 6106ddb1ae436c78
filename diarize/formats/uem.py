"""UEM, un-partitioned evaluation map: the regions of a recording that are scored.

::

    <session_id> <channel> <start> <end>

Fields are separated by white space, times are seconds of the recording. Empty lines and
comments (``;``) are passed over. The channel is written as 1.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from diarize.errors import RttmError
from diarize.files import lines_of, read_bytes, read_lines, write_text
from diarize.turns import LONGEST, Segment


class UemLine(NamedTuple):
    """One region and its place in the file.

    Attributes:
        number: line number, from 1.
        session_id: field 1.
        segment: fields 3 and 4.
        channel: field 2.
    """

    number: int
    session_id: str
    segment: Segment
    channel: str


class UemFile(NamedTuple):
    """What a file says, and which file it is.

    Attributes:
        lines: its regions, in the order of the file.
        sha256: of its bytes, hexadecimal.
    """

    lines: list[UemLine]
    sha256: str


def read_uem(path: str | Path) -> dict[str, list[Segment]]:
    """Scored regions by session, in the order of the file.

    Raises:
        RttmError: at the first line that is no UEM, or if the file cannot be read.
    """
    sessions: dict[str, list[Segment]] = {}
    for line in read_uem_file(path).lines:
        sessions.setdefault(line.session_id, []).append(line.segment)
    return sessions


def read_uem_file(path: str | Path) -> UemFile:
    """Scored regions line by line, and the file's hash; it is read once.

    Raises:
        RttmError: at the first line that is no UEM, or if the file cannot be read.
    """
    content = read_bytes(path, RttmError)
    lines, faults = _scan(lines_of(content, path, RttmError), path)
    if faults:
        raise RttmError(faults[0])
    return UemFile(lines, hashlib.sha256(content).hexdigest())


def scan_uem(path: str | Path) -> tuple[list[UemLine], list[str]]:
    """Every region that can be read, and a message for every line that cannot.

    Raises:
        RttmError: if the file cannot be read at all.
    """
    return _scan(read_lines(path, RttmError), path)


def write_uem(destination: str | Path | TextIO, sessions: Mapping[str, Sequence[Segment]]) -> None:
    """Write regions, sorted, three decimals; a path is written whole or not at all.

    Raises:
        RttmError: for an id that UEM cannot hold, or a region that ends before it starts.
    """
    lines = []
    for session_id, segments in sessions.items():
        if session_id.split() != [session_id]:
            raise RttmError(
                f"session id {session_id!r} is empty or has white space, but UEM separates its "
                "fields by white space. Give another session id."
            )
        for segment in sorted(segments, key=lambda s: (s.start, s.end)):
            if not 0 <= segment.start < segment.end < math.inf:
                raise RttmError(
                    f"session {session_id!r}: a region lasts from {segment.start} s to "
                    f"{segment.end} s, but UEM holds 0 <= start < end. Mend the region."
                )
            lines.append(f"{session_id} 1 {segment.start:.3f} {segment.end:.3f}\n")
    write_text(destination, "".join(lines))


def _scan(texts: Sequence[str], path: str | Path) -> tuple[list[UemLine], list[str]]:
    lines: list[UemLine] = []
    faults: list[str] = []
    for number, text in enumerate(texts, start=1):
        fields = text.split()
        if not fields or fields[0].startswith(";"):
            continue
        try:
            lines.append(UemLine(number, *_parse(fields)))
        except RttmError as error:
            faults.append(f"{path}:{number}: {error}")
    return lines, faults


def _parse(fields: list[str]) -> tuple[str, Segment, str]:
    if len(fields) != 4:
        raise RttmError(
            f"line has {len(fields)} fields, but UEM has 4: session id, channel, start, end. "
            "Is the file UEM?"
        )
    try:
        start, end = float(fields[2]), float(fields[3])
    except ValueError:
        start = end = math.nan
    if not (math.isfinite(start) and math.isfinite(end)):
        raise RttmError(
            f"region is {fields[2]!r} to {fields[3]!r}, but both must be numbers. "
            "Mend or remove the line."
        )
    if not 0 <= start < end:
        raise RttmError(
            f"region lasts from {fields[2]} s to {fields[3]} s, but UEM holds 0 <= start < end. "
            "Mend or remove the line."
        )
    if not end < LONGEST:
        raise RttmError(
            f"region ends at {fields[3]} s, but no recording lasts {LONGEST:g} s, 31 years. "
            "Are its times seconds of the recording?"
        )
    return fields[0], Segment(start, end), fields[1]
