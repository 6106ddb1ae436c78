"""NXT, the XML of the NITE XML Toolkit, in which AMI and ICSI are annotated: words and segments.

::

    <w nite:id="ES2011a.A.words0" starttime="34.27" endtime="34.75">Okay</w>
    <w nite:id="ES2011a.A.words1" starttime="34.75" endtime="34.75" punc="true">.</w>
    <vocalsound nite:id="ES2011a.A.words2" starttime="36.1" endtime="36.9" type="laugh"/>

    <segment nite:id="Bdb001.segment.1" starttime="0.2" endtime="3.9" participant="me011">
       <nite:child href="Bdb001.A.words.xml#id(Bdb001.w.1)..id(Bdb001.w.9)"/>
    </segment>

A file holds what one agent of one meeting says: ``ES2011a.A.words.xml``. Times are seconds of the
recording. Words that nobody aligned have none, or empty ones.
"""

import math
import re
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from diarize.errors import CorpusError

NITE = "{http://nite.sourceforge.net/}"

PUNCTUATION = frozenset((".", "CM", "QM", "EXCLM", "HYPH", "LQUOTE", "RQUOTE", "QUOTE", "SYM"))
"""How ICSI classifies what stands in the transcript alone; AMI says ``punc="true"``."""

RANGE = re.compile(r"#id\(([^)]*)\)(?:\.\.id\(([^)]*)\))?")


class Sound(NamedTuple):
    """An element of a file of words: what is heard of one agent.

    Attributes:
        name: its id.
        kind: its tag: ``w``, ``vocalsound``, ``disfmarker``, ``gap``, ...
        start: seconds of the recording; None where nobody aligned it.
        end: likewise.
        punctuation: whether it stands in the transcript alone, and is not heard.
    """

    name: str
    kind: str
    start: float | None
    end: float | None
    punctuation: bool = False


class Stretch(NamedTuple):
    """An element of a file of segments: speech of one agent, as its transcriber heard it.

    Attributes:
        start: seconds of the recording; None where it has none.
        end: likewise.
        participant: who speaks, a name within the corpus; "" where nobody is named.
        sounds: ids of the first and the last sound of each run that it consists of.
    """

    start: float | None
    end: float | None
    participant: str
    sounds: tuple[tuple[str, str], ...]


def read_words(path: str | Path) -> list[Sound]:
    """Everything a file of words holds, in its order.

    Raises:
        CorpusError: if it cannot be read, is no XML, or a time is no number.
    """
    return [
        Sound(
            element.get(f"{NITE}id", ""),
            element.tag,
            *_times(element, path),
            element.get("punc") == "true" or element.get("c") in PUNCTUATION,
        )
        for element in read_xml(path)
    ]


def read_segments(path: str | Path) -> list[Stretch]:
    """The segments of a file, in its order.

    Raises:
        CorpusError: if it cannot be read, is no XML, or a time is no number.
    """
    return [
        Stretch(
            *_times(element, path),
            element.get("participant", ""),
            tuple(
                (first, last or first)
                for child in element.iter(f"{NITE}child")
                for first, last in RANGE.findall(child.get("href", ""))
            ),
        )
        for element in read_xml(path).iter("segment")
    ]


def read_xml(path: str | Path) -> ElementTree.Element:
    """The root of an XML file.

    Raises:
        CorpusError: if it cannot be read, or is no XML.
    """
    try:
        return ElementTree.parse(path).getroot()
    except OSError as fault:
        raise CorpusError(f"{path}: cannot be read ({fault.strerror}). Check the path.") from None
    except ElementTree.ParseError as fault:
        raise CorpusError(f"{path}: is not XML ({fault}). Unpack the annotation again.") from None


def _times(element: ElementTree.Element, path: str | Path) -> tuple[float | None, float | None]:
    return _seconds(element, "starttime", path), _seconds(element, "endtime", path)


def _seconds(element: ElementTree.Element, name: str, path: str | Path) -> float | None:
    text = element.get(name, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise CorpusError(
            f"{path}: {element.tag} {element.get(f'{NITE}id')!r} has {name} {text!r}, but times "
            "are seconds from 0. Mend the file."
        )
    return value
