"""RTTM, Rich Transcription Time Marked: one line per turn, ten fields.

::

    SPEAKER <session_id> <channel> <start> <duration> <NA> <NA> <speaker> <confidence> <NA>

Fields are separated by white space, times are seconds of the recording. Ten fields stand in
appendix A of NIST's RT-09 evaluation plan; the RTTM format 1.3 of 2004, and Kaldi after it, has
nine, which are read as well. Lines of the other types of those documents, empty lines and
comments (``;``) carry no turns and are passed over; `read_rttm_file` counts them.
"""

import hashlib
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
from numpy.typing import NDArray

from diarize.errors import RttmError
from diarize.files import lines_of, read_bytes, read_lines, write_text
from diarize.turns import LONGEST, Turn, in_order

OTHER_TYPES = frozenset(
    ("NOSCORE", "NO_RT_METADATA", "SEGMENT", "LEXEME", "NON-LEX", "NON-SPEECH", "FILLER", "EDIT")
    + ("IP", "SU", "CB", "A/P", "SPKR-INFO")
)
"""Line types of the evaluation plans that hold no turn."""

BLOCK = 4096
"""Lines that are taken apart at once: few enough for a processor's cache."""

NOTHING = "<NA>"
"""What stands in a field that is not known."""

COMMENT = ";"
"""What a comment begins with."""

PROBABILITY = "it is a probability, 0 to 1. Write <NA> where nobody knows it."


class RttmLine(NamedTuple):
    """One SPEAKER line and its place in the file.

    Attributes:
        number: line number, from 1.
        session_id: field 2.
        turn: fields 3, 4, 5, 8 and 9.
    """

    number: int
    session_id: str
    turn: Turn


def read_rttm(path: str | Path) -> dict[str, list[Turn]]:
    """Turns by session, in the order of the file.

    Times come back as the decimals that were written: ``3.340`` plus ``0.540`` ends at 3.88.

    Raises:
        RttmError: at the first line that is no RTTM, or if the file cannot be read.
    """
    lines, faults = scan_rttm(path)
    if faults:
        raise RttmError(faults[0])
    sessions: dict[str, list[Turn]] = {}
    for line in lines:
        sessions.setdefault(line.session_id, []).append(line.turn)
    return sessions


class Columns(NamedTuple):
    """Turns of one session, column by column, in the order of the file.

    Attributes:
        start: (turn,) seconds.
        end: (turn,) seconds.
        speakers: (turn,) labels.
        channels: (turn,) as RTTM writes them, usually "1".
    """

    start: NDArray[np.float64]
    end: NDArray[np.float64]
    speakers: list[str]
    channels: list[str]

    def numbered(self) -> tuple[list[str], NDArray[np.int64]]:
        """Labels in their order, and (turn,) which of them each turn has."""
        speakers = sorted(set(self.speakers))
        number = {speaker: place for place, speaker in enumerate(speakers)}
        of_turns = map(number.__getitem__, self.speakers)
        return speakers, np.fromiter(of_turns, dtype=np.int64, count=len(self.speakers))

    @classmethod
    def joined(cls, pieces: "Sequence[Columns]") -> "Columns":
        """One after the other."""
        return cls(
            np.concatenate([piece.start for piece in pieces]),
            np.concatenate([piece.end for piece in pieces]),
            [speaker for piece in pieces for speaker in piece.speakers],
            [channel for piece in pieces for channel in piece.channels],
        )

    @classmethod
    def of(cls, turns: Sequence[Turn]) -> "Columns":
        """The columns of turns; confidences are left out."""
        return cls(
            np.array([turn.start for turn in turns], dtype=np.float64),
            np.array([turn.end for turn in turns], dtype=np.float64),
            [turn.speaker for turn in turns],
            [turn.channel for turn in turns],
        )


class RttmFile(NamedTuple):
    """What a file says, and which file it is.

    Attributes:
        sessions: session id -> its turns, in the order of the file.
        passed_over: type of line, or ";" of a comment -> how many of them hold no turn.
        sha256: of its bytes, hexadecimal.
    """

    sessions: dict[str, Columns]
    passed_over: Counter[str]
    sha256: str


def read_columns(path: str | Path) -> dict[str, Columns]:
    """Turns by session as `read_rttm` has them, several times as fast, without confidences.

    Raises:
        RttmError: at the first line that is no RTTM, or if the file cannot be read.
    """
    return read_rttm_file(path).sessions


def read_rttm_file(path: str | Path) -> RttmFile:
    """Turns by session, what else the file holds, and its hash; it is read once.

    Raises:
        RttmError: at the first line that is no RTTM, or if the file cannot be read.
    """
    content = read_bytes(path, RttmError)
    lines = lines_of(content, path, RttmError)
    spoken = [line for line in lines if line.startswith("SPEAKER")]
    passed_over: Counter[str] = Counter()
    if len(spoken) < len(lines):
        kinds = (line.split(maxsplit=1)[:1] for line in lines if not line.startswith("SPEAKER"))
        passed_over.update(
            COMMENT if kind.startswith(COMMENT) else kind for (kind,) in filter(None, kinds)
        )
    sessions = None
    if passed_over.keys() <= OTHER_TYPES | {COMMENT}:
        sessions = _plain_columns(spoken)
    if sessions is None:  # a closer look: line by line
        found, faults = _scan(lines, path)
        if faults:
            raise RttmError(faults[0])
        turns: dict[str, list[Turn]] = {}
        for line in found:
            turns.setdefault(line.session_id, []).append(line.turn)
        sessions = {name: Columns.of(of) for name, of in turns.items()}
        del passed_over["SPEAKER"]  # of indented lines
    return RttmFile(sessions, passed_over, hashlib.sha256(content).hexdigest())


def _plain_columns(lines: Sequence[str]) -> dict[str, Columns] | None:
    """Turns by session of SPEAKER lines; None where they have a fault, or not as many fields."""
    pieces: dict[str, list[Columns]] = {}
    for first in range(0, len(lines), BLOCK):
        block = _plain_block(lines[first : first + BLOCK])
        if block is None:
            return None
        for name, piece in block:
            pieces.setdefault(name, []).append(piece)
    return {
        name: found[0] if len(found) == 1 else Columns.joined(found)
        for name, found in pieces.items()
    }


def _plain_block(lines: Sequence[str]) -> list[tuple[str, Columns]] | None:
    """Neighbouring turns of a session, session by session."""
    fields = "\n".join(lines).split()
    width = len(lines[0].split())
    kinds = fields[::width]
    # The type of a line stands nowhere but at every such field, so that each line has as many.
    plain = len(lines) == len(kinds) == kinds.count("SPEAKER") == fields.count("SPEAKER")
    if width not in (9, 10) or not plain or len(fields) % width:
        return None
    speakers, confidences = list(map(sys.intern, fields[7::width])), fields[8::width]
    if NOTHING in speakers:
        return None
    if confidences.count(NOTHING) < len(confidences):
        confidences = [field for field in confidences if field != NOTHING]
    else:
        confidences = []
    try:
        start = np.array(fields[3::width], dtype=np.float64)
        duration = np.array(fields[4::width], dtype=np.float64)
        confidence = np.array(confidences, dtype=np.float64)
    except ValueError:
        return None
    sound = np.isfinite(start) & np.isfinite(duration) & (start >= 0) & (duration >= 0)
    if not (sound & (start + duration < LONGEST)).all():
        return None
    if not ((confidence >= 0) & (confidence <= 1)).all():
        return None
    # Nine decimals, as below: of whole billionths, the division is exact to the last bit.
    end = np.maximum(np.rint((start + duration) * 1e9) / 1e9, start)
    channels = list(map(sys.intern, fields[2::width]))
    return [
        (
            name,
            Columns(start[first:last], end[first:last], speakers[first:last], channels[first:last]),
        )
        for name, first, last in _runs(fields[1::width])
    ]


def _runs(names: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Neighbours of one name: the name, the first of them, and one past the last."""
    first = 0
    for name, run in groupby(names):
        last = first + len(list(run))
        yield name, first, last
        first = last


def scan_rttm(path: str | Path) -> tuple[list[RttmLine], list[str]]:
    """Every SPEAKER line that can be read, and a message for every line that cannot.

    Raises:
        RttmError: if the file cannot be read at all.
    """
    return _scan(read_lines(path, RttmError), path)


def write_rttm(destination: str | Path | TextIO, sessions: Mapping[str, Sequence[Turn]]) -> None:
    """Write sessions one after the other; a path is written whole or not at all.

    A session without turns leaves no line: RTTM cannot name a session that nobody speaks in.

    Raises:
        RttmError: for an id or speaker that RTTM cannot hold, or a time that is none.
    """
    write_text(destination, "".join(format_rttm(name, turns) for name, turns in sessions.items()))


def format_rttm(session_id: str, turns: Sequence[Turn]) -> str:
    """RTTM text of one session: sorted by start, three decimals.

    Starts and ends are rounded, durations follow from them, so that turns that touch still do.

    Raises:
        RttmError: for an id or speaker that RTTM cannot hold, or a time that is none.
    """
    check_name("session id", session_id)
    return "".join(_format(session_id, turn) for turn in in_order(turns))


def check_name(what: str, name: str) -> None:
    """Refuse a name that would not survive in a file whose fields white space separates.

    Args:
        what: how the message calls it, such as "session id".
        name: the name.

    Raises:
        RttmError: if the name is empty or holds white space, or a speaker's stands for none.
    """
    if name == NOTHING and what == "speaker":
        raise RttmError(
            f"speaker is {name!r}, but that stands for nothing in RTTM. Give another speaker."
        )
    if name.split() != [name]:
        fault = "has white space" if name.strip() else "is empty"
        raise RttmError(
            f"{what} {name!r} {fault}, but RTTM separates its fields by white space. "
            f"Give another {what}, for example {'_'.join(name.split()) or 'meeting_1'!r}."
        )


def _scan(texts: Sequence[str], path: str | Path) -> tuple[list[RttmLine], list[str]]:
    lines: list[RttmLine] = []
    faults: list[str] = []
    for number, text in enumerate(texts, start=1):
        fields = text.split()
        if not fields or fields[0].startswith(COMMENT) or fields[0] in OTHER_TYPES:
            continue
        try:
            lines.append(RttmLine(number, *_parse(fields)))
        except RttmError as error:
            faults.append(f"{path}:{number}: {error}")
    return lines, faults


def _parse(fields: list[str]) -> tuple[str, Turn]:
    """Session and turn of a SPEAKER line."""
    if fields[0] != "SPEAKER":
        raise RttmError(
            f"line begins with {fields[0]!r}, but an RTTM line begins with its type, SPEAKER for "
            "a turn. Is the file RTTM?"
        )
    if len(fields) not in (9, 10):
        guess = "Is a speaker name missing?" if len(fields) < 9 else "Has a name a space?"
        raise RttmError(f"'SPEAKER' line has {len(fields)} fields, but RTTM has 9 or 10. {guess}")
    if fields[7] == NOTHING:
        raise RttmError(
            "'SPEAKER' line has the speaker <NA>, but a turn is somebody's. Is a speaker name "
            "missing?"
        )
    start = _number("start", fields[3], "a recording starts at 0 s. Shift the turns.")
    duration = _number("duration", fields[4], "time runs forward. Is field 5 the end of the turn?")
    confidence = None if fields[8] == NOTHING else _number("confidence", fields[8], PROBABILITY)
    if confidence is not None and confidence > 1:
        raise RttmError(f"confidence is {fields[8]}, but {PROBABILITY}")
    # Nine decimals undo what binary addition adds: 0.1 + 0.2 is 0.30000000000000004.
    end = round(start + duration, 9)
    if not end < LONGEST:
        raise RttmError(
            f"turn ends at {end:g} s, but no recording lasts {LONGEST:g} s, 31 years. Are its "
            "times seconds of the recording?"
        )
    return fields[1], Turn(start, max(start, end), fields[7], confidence, fields[2])


def _number(name: str, field: str, reason: str) -> float:
    """A number that is finite and not negative, for the reason given."""
    try:
        value = float(field)
    except ValueError:
        value = math.nan
    if not -math.inf < value < math.inf:
        raise RttmError(f"{name} is {field!r}, but it must be a number. Mend or remove the line.")
    if value < 0:
        raise RttmError(f"{name} is {field}, but {reason}")
    return value


def _format(session_id: str, turn: Turn) -> str:
    check_name("speaker", turn.speaker)
    check_name("channel", turn.channel)
    if not (0 <= turn.start <= turn.end < math.inf):
        raise RttmError(
            f"session {session_id!r}: a turn of {turn.speaker!r} lasts from {turn.start} s to "
            f"{turn.end} s, but RTTM holds 0 <= start <= end. Mend the turn."
        )
    start, end = round(turn.start, 3), round(turn.end, 3)
    confidence = NOTHING if turn.confidence is None else f"{turn.confidence:.6g}"
    return (
        f"SPEAKER {session_id} {turn.channel} {start:.3f} {end - start:.3f} "
        f"<NA> <NA> {turn.speaker} {confidence} <NA>\n"
    )
