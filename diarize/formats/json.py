"""JSON of one session: who spoke when, for programs that read no RTTM.

::

    {"session_id": "meeting", "duration": 61.2, "speakers": ["speaker_0"], "turns": [
      {"start": 0.48, "end": 3.2, "speaker": "speaker_0", "confidence": 0.97}
    ]}

Times are seconds of the recording, rounded to three decimals as in RTTM.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from diarize.errors import RttmError
from diarize.files import read_lines, write_text
from diarize.turns import Turn, in_order


def write_json(
    destination: str | Path | TextIO, session_id: str, turns: Sequence[Turn], **facts: Any
) -> None:
    """Write one session; a path is written whole or not at all.

    Args:
        destination: path or open text stream.
        session_id: name of the session; any text.
        turns: its turns, in any order.
        facts: further keys, written between the id and the speakers, such as ``duration``.
    """
    write_text(destination, format_json(session_id, turns, **facts))


def format_json(session_id: str, turns: Sequence[Turn], **facts: Any) -> str:
    """JSON text of one session: facts on the first line, then a line per turn.

    Speakers are listed in arrival order. ``confidence`` stands only where it is known.
    """
    ordered = in_order(turns)
    head = {
        "session_id": session_id,
        **facts,
        "speakers": list(dict.fromkeys(turn.speaker for turn in ordered)),
    }
    lines = ",".join(f"\n  {_dump(_turn(turn))}" for turn in ordered)
    return f'{_dump(head)[:-1]}, "turns": [{lines}\n]}}\n'


def read_json(path: str | Path) -> dict[str, list[Turn]] | None:
    """Session id -> turns, of one session, or of one a line; None where it is another JSON.

    Raises:
        RttmError: if the file cannot be read, or a session or a turn lacks something.
    """
    sessions = read_sessions(path)
    return None if sessions is None else turns_of(sessions)


def turns_of(sessions: dict[str, tuple[str, dict[str, Any]]]) -> dict[str, list[Turn]]:
    """Session id -> turns, of what `read_sessions` read.

    Raises:
        RttmError: if a turn lacks something.
    """
    return {
        name: [_read_turn(turn, where) for turn in values["turns"]]
        for name, (where, values) in sessions.items()
    }


def read_sessions(path: str | Path) -> dict[str, tuple[str, dict[str, Any]]] | None:
    """Session id -> its place and all that is said of it; None where it is another JSON.

    Raises:
        RttmError: if the file cannot be read, or a session lacks something.
    """
    text = "\n".join(read_lines(path, RttmError)).strip()
    decoder = json.JSONDecoder()
    sessions: dict[str, tuple[str, dict[str, Any]]] = {}
    place = 0
    while place < len(text):
        where = f"{path}:{text.count(chr(10), 0, place) + 1}"
        try:
            values, stop = decoder.raw_decode(text, place)
        except json.JSONDecodeError as error:
            if not sessions:
                return None
            raise RttmError(
                f"{where}: is not JSON ({error.msg} at line {error.lineno}). Was it cut off?"
            ) from None
        if not isinstance(values, dict) or not isinstance(values.get("turns"), list):
            return None
        name = values.get("session_id")
        if not isinstance(name, str) or name in sessions:
            raise RttmError(
                f"{where}: 'session_id' is {name!r}, but each session has a name of its own. "
                "Give it one."
            )
        sessions[name] = where, values
        place = stop + len(text[stop:]) - len(text[stop:].lstrip())
    return sessions or None


def _read_turn(values: Any, where: str) -> Turn:
    try:
        start, end, speaker = (values[key] for key in ("start", "end", "speaker"))
        confidence = values.get("confidence")
        turn = Turn(float(start), float(end), speaker, confidence and float(confidence))
    except (AttributeError, KeyError, TypeError, ValueError):
        turn = Turn(math.nan, math.nan, "")
    if not (0 <= turn.start <= turn.end < math.inf and isinstance(turn.speaker, str)):
        raise RttmError(
            f"{where}: a turn is {json.dumps(values)}, but it has 'start' and 'end', seconds, and "
            "'speaker', a name. Correct it."
        )
    return turn


def _turn(turn: Turn) -> dict[str, Any]:
    known: dict[str, Any] = {
        "start": round(float(turn.start), 3),
        "end": round(float(turn.end), 3),
        "speaker": turn.speaker,
    }
    if turn.confidence is not None:
        known["confidence"] = round(float(turn.confidence), 6)
    return known


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
