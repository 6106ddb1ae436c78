"""NXT, the XML of the NITE XML Toolkit, in which AMI and ICSI are annotated: words with times.

::

    <w nite:id="ES2011a.A.words0" starttime="34.27" endtime="34.75">Okay</w>
    <w nite:id="ES2011a.A.words1" starttime="34.75" endtime="34.75" punc="true">.</w>
    <vocalsound nite:id="ES2011a.A.words2" starttime="36.1" endtime="36.9" type="laugh"/>

A file holds what one agent of one meeting says: ``ES2011a.A.words.xml``. Times are seconds of the
recording. Words that nobody aligned have none, or empty ones.
"""

import math
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from diarize.errors import CorpusError

ID = "{http://nite.sourceforge.net/}id"


class Sound(NamedTuple):
    """An element of a file of words: what is heard of one agent.

    Attributes:
        kind: its tag: ``w``, ``vocalsound``, ``disfmarker``, ``gap``, ...
        start: seconds of the recording; None where nobody aligned it.
        end: likewise.
        punctuation: whether it stands in the transcript alone, and is not heard.
    """

    kind: str
    start: float | None
    end: float | None
    punctuation: bool

    @property
    def timed(self) -> bool:
        """Whether it has a place in the recording."""
        return self.start is not None and self.end is not None and self.end >= self.start


def read_words(path: str | Path) -> list[Sound]:
    """Everything a file of words holds, in its order.

    Raises:
        CorpusError: if it cannot be read, is no XML, or a time is no number.
    """
    sounds = []
    for element in read_xml(path):
        where = f"{path}: {element.tag} {element.get(ID)!r}"
        start, end = (_seconds(element, name, where) for name in ("starttime", "endtime"))
        sounds.append(Sound(element.tag, start, end, element.get("punc") == "true"))
    return sounds


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


def _seconds(element: ElementTree.Element, name: str, where: str) -> float | None:
    text = element.get(name, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise CorpusError(
            f"{where} has {name} {text!r}, but times are seconds from 0. Mend the file."
        )
    return value
