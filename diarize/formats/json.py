"""JSON of one session: who spoke when, for programs that read no RTTM.

::

    {"session_id": "meeting", "duration": 61.2, "speakers": ["speaker_0"], "turns": [
      {"start": 0.48, "end": 3.2, "speaker": "speaker_0", "confidence": 0.97}
    ]}

Times are seconds of the recording, rounded to three decimals as in RTTM.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

from diarize.files import write_text
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
