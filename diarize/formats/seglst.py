"""SegLST, segment-wise long-form speech transcription: utterances as a list in JSON.

::

    [{"session_id": "S02", "speaker": "P05", "start_time": "0:01:15.50", "end_time": "76.1",
      "words": "so"}]

CHiME-6 has times as hours, minutes and seconds, CHiME-7 and later as seconds in quotes, NOTSOFAR-1
as numbers, with ``speaker_id`` and ``text``. Other keys are kept.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from diarize.errors import CorpusError
from diarize.files import read_lines


class Utterance(NamedTuple):
    """What somebody says.

    Attributes:
        start: seconds of the recording.
        end: likewise; utterances that end before they start are in some corpora.
        speaker: who speaks.
        words: what is said.
        extra: all its keys.
    """

    start: float
    end: float
    speaker: str
    words: str
    extra: Mapping[str, Any]


def read_seglst(path: str | Path) -> list[Utterance]:
    """Utterances in the order of the file.

    Raises:
        CorpusError: if it cannot be read, is no such list, or an utterance lacks its speaker or a
            time.
    """
    try:
        rows = json.loads("\n".join(read_lines(path, CorpusError)))
    except json.JSONDecodeError as fault:
        raise CorpusError(
            f"{path}:{fault.lineno}: is not JSON ({fault.msg}). Get the file again."
        ) from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise CorpusError(f"{path}: is JSON, but no list of utterances, {{…}} each. Is it SegLST?")
    return [_utterance(row, f"{path}: utterance {number}") for number, row in enumerate(rows, 1)]


def _utterance(row: dict[str, Any], where: str) -> Utterance:
    speaker = row.get("speaker", row.get("speaker_id"))
    if not isinstance(speaker, str) or not speaker:
        raise CorpusError(f"{where} has speaker {speaker!r}, but somebody speaks. Mend the file.")
    start, end = (_seconds(row.get(key), key, where) for key in ("start_time", "end_time"))
    return Utterance(start, end, speaker, str(row.get("words", row.get("text", ""))), row)


def _seconds(value: object, key: str, where: str) -> float:
    """A time, told as seconds or as hours, minutes and seconds."""
    seconds = math.nan
    if isinstance(value, str | float | int) and not isinstance(value, bool):
        try:
            seconds = 0.0
            for part in str(value).split(":"):
                seconds = 60 * seconds + float(part)
        except ValueError:
            seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise CorpusError(
            f"{where} has {key} {value!r}, but a time is seconds, or h:mm:ss.ss. Mend the file."
        )
    return round(seconds, 6)
