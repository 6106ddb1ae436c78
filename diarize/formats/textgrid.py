"""TextGrid, the labels of Praat: tiers of intervals, each with a text. Read, in both text forms.

::

    File type = "ooTextFile"                    "ooTextFile"
    Object class = "TextGrid"                   "TextGrid"
    ...                                         ...
        class = "IntervalTier"                  "IntervalTier"
        name = "N_F_SPK8013"                    "N_F_SPK8013"
        ...                                     ...
        intervals [1]:                          0
            xmin = 0                            1.25
            xmax = 1.25                         "好"
            text = "好"

Praat reads texts in quotes (a quote within is doubled), numbers between spaces and flags in angle
brackets, and passes over every other word and what follows a ``!``; thus the long form, left, and
the short one, right, are one. Files are UTF-8, or UTF-16 with a byte order mark. Times are seconds
of the recording. Those of the heads of file and tiers are not looked at, for some released files
have an interval that ends later; nor is a number of intervals that is too low, as Montreal Forced
Aligner has written it.
"""

import codecs
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from diarize.errors import RttmError
from diarize.turns import Turn

TOKEN = re.compile(r'"(?:[^"]|"")*"|"|![^\n]*|<[^>\n]*>|[^\s"]+')
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
VALUES = {"IntervalTier": 2, "TextTier": 1}
"""Times of an entry, by the class of its tier."""


class Interval(NamedTuple):
    """A stretch of a tier.

    Attributes:
        start: seconds.
        end: seconds.
        text: its label, without spaces around it; empty where there is none.
    """

    start: float
    end: float
    text: str


class Tier(NamedTuple):
    """Intervals one after the other.

    Attributes:
        name: in diarization, mostly who speaks.
        intervals: in the order of the file; none of a tier of points.
    """

    name: str
    intervals: list[Interval]

    def turns(self, speaker: str | None = None) -> list[Turn]:
        """A turn for each interval that has a text.

        Args:
            speaker: whose; None takes the tier's name.
        """
        name = self.name if speaker is None else speaker
        return [Turn(i.start, i.end, name) for i in self.intervals if i.text]


class _Token(NamedTuple):
    """A text or a number, and the line it begins in."""

    number: int
    value: str | float


def read_textgrid(path: str | Path) -> list[Tier]:
    """Tiers in the order of the file.

    Raises:
        RttmError: if the file cannot be read, is no TextGrid, ends too early, or an interval runs
            backward.
    """
    tokens = _Tokens(path, list(_scan(path, _decode(path))))
    head = tokens.text("a file type").split()[:1] + [tokens.text("an object class")]
    if head != ["ooTextFile", "TextGrid"]:
        raise tokens.fault(
            'is no TextGrid, but one begins with "ooTextFile" and "TextGrid". Is it another file '
            "of Praat?"
        )
    for time in ("start", "end"):
        tokens.count(f"the {time} of the file")
    announced = tokens.count("the number of tiers")
    tiers = []
    while tokens.left:
        tiers.append(_tier(tokens))
    if len(tiers) < announced:
        raise tokens.fault(
            f"ends after {len(tiers)} tiers, but its head says {announced:g}. Is the file cut off?"
        )
    return tiers


class _Tokens:
    """What is left of a file, last first, and the line of what was taken."""

    def __init__(self, path: str | Path, tokens: list[_Token]) -> None:
        self.path, self.left, self.number = path, tokens[::-1], 1

    @property
    def next(self) -> str | float | None:
        """What would be taken."""
        return self.left[-1].value if self.left else None

    def text(self, what: str) -> str:
        """Take what must be a text."""
        value = self._take(what)
        if not isinstance(value, str):
            raise self.fault(f"has {value:g}, but {what}, in quotes, must follow. Mend the file.")
        return value

    def count(self, what: str) -> float:
        """Take what must be a number."""
        value = self._take(what)
        if isinstance(value, str):
            raise self.fault(f"has {value!r}, but {what}, a number, must follow. Mend the file.")
        return value

    def fault(self, message: str) -> RttmError:
        """A message that says where."""
        return RttmError(f"{self.path}:{self.number}: {message}")

    def _take(self, what: str) -> str | float:
        if not self.left:
            raise self.fault(f"the file ends here, but {what} must follow. Is it cut off?")
        self.number, value = self.left.pop()
        return value


def _tier(tokens: _Tokens) -> Tier:
    kind = tokens.text("the class of a tier")
    if kind not in VALUES:
        raise tokens.fault(
            f"has a tier of class {kind!r}, but there are {' and '.join(VALUES)}. Mend the file."
        )
    name = tokens.text("the name of a tier")
    for time in ("start", "end"):
        tokens.count(f"the {time} of tier {name!r}")
    announced = tokens.count(f"the size of tier {name!r}")
    found, intervals = 0, []
    # An entry begins with a number, the next tier with its class.
    while isinstance(tokens.next, float):
        times = [tokens.count(f"a time of tier {name!r}") for _ in range(VALUES[kind])]
        if not 0 <= times[0] <= times[-1] < math.inf:
            raise tokens.fault(
                f"an entry of tier {name!r} lasts from {times[0]:g} s to {times[-1]:g} s, but "
                "times begin at 0 and run forward. Mend the entry."
            )
        text = tokens.text(f"a label of tier {name!r}").strip()
        found += 1
        if kind == "IntervalTier":
            intervals.append(Interval(times[0], times[-1], text))
    if found < announced:
        raise tokens.fault(
            f"tier {name!r} ends after {found} entries, but its head says {announced:g}. Is the "
            "file cut off?"
        )
    return Tier(name, intervals)


def _scan(path: str | Path, text: str) -> Iterator[_Token]:
    """Texts and numbers; all else is passed over."""
    number, place = 1, 0
    for match in TOKEN.finditer(text):
        number += text.count("\n", place, match.start())
        place, token = match.start(), match.group()
        if token == '"':
            raise RttmError(
                f"{path}:{number}: opens a text by a quote, but none closes it. Is the file cut "
                "off, or a quote within the text not doubled?"
            )
        if token[0] == '"':
            yield _Token(number, token[1:-1].replace('""', '"'))
        elif NUMBER.fullmatch(token):
            yield _Token(number, float(token))


def _decode(path: str | Path) -> str:
    try:
        content = Path(path).read_bytes()
    except OSError as fault:
        raise RttmError(f"{path}: cannot be read ({fault.strerror}). Check the path.") from None
    if content.startswith(b"ooBinaryFile"):
        raise RttmError(
            f"{path}: is a binary TextGrid, but text is read. Open it in Praat and save it as a "
            "text file."
        )
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as fault:
        known = content[: fault.start].decode("utf-16" if wide else "utf-8-sig", "replace")
        raise RttmError(
            f"{path}:{known.count(chr(10)) + 1}: is neither UTF-8 nor UTF-16 with a byte order "
            "mark. Save the file as UTF-8."
        ) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
