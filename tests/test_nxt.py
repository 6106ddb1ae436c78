"""formats.nxt: words with times, of one agent of one meeting."""

from pathlib import Path

import pytest

from diarize.errors import CorpusError
from diarize.formats.nxt import Sound, read_words

NITE = 'xmlns:nite="http://nite.sourceforge.net/"'
WORDS = f"""<?xml version="1.0" encoding="ISO-8859-1" standalone="yes"?>
<nite:root nite:id="ES2011a.A.words" {NITE}>
   <w nite:id="ES2011a.A.words0" starttime="34.27" endtime="34.75">Caf\xe9</w>
   <w nite:id="ES2011a.A.words1" starttime="34.75" endtime="34.75" punc="true">.</w>
   <vocalsound nite:id="ES2011a.A.words2" starttime="36.1" endtime="36.9" type="laugh"/>
   <w nite:id="ES2011a.A.words3">so</w>
   <w nite:id="ES2011a.A.words4" starttime="" endtime="38">um</w>
   <w nite:id="ES2011a.A.words5" starttime="39" endtime="38.5">back</w>
   <w nite:id="ES2011a.A.words6" starttime="40" endtime="40.2">on</w>
</nite:root>
"""


def test_words_have_kinds_and_times(tmp_path: Path) -> None:
    path = tmp_path / "ES2011a.A.words.xml"
    path.write_text(WORDS, encoding="latin-1")
    assert read_words(path) == [
        Sound("w", 34.27, 34.75, False),
        Sound("w", 34.75, 34.75, True),
        Sound("vocalsound", 36.1, 36.9, False),
        Sound("w", None, None, False),
        Sound("w", None, 38.0, False),
        Sound("w", 39.0, 38.5, False),
        Sound("w", 40.0, 40.2, False),
    ]
    timed = [sound.timed for sound in read_words(path)]
    assert timed == [True, True, True, False, False, False, True]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<root><w", r"a\.xml: is not XML \(.*line 1.*\)\. Unpack"),
        (
            f'<root {NITE}><w nite:id="w7" starttime="1,5"/></root>',
            r"a\.xml: w 'w7' has starttime '1,5', but times are seconds from 0",
        ),
        ('<root><w starttime="-1"/></root>', "has starttime '-1', but times"),
        ('<root><w endtime="inf"/></root>', "has endtime 'inf', but times"),
    ],
)
def test_what_is_no_annotation_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.xml"
    path.write_text(text)
    with pytest.raises(CorpusError, match=message):
        read_words(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"none\.xml: cannot be read \(No such file"):
        read_words(tmp_path / "none.xml")
