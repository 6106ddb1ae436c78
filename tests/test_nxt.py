"""formats.nxt: words with times, of one agent of one meeting."""

from pathlib import Path

import pytest

from diarize.errors import CorpusError
from diarize.formats.nxt import Sound, Stretch, read_segments, read_words

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
        Sound("ES2011a.A.words0", "w", 34.27, 34.75),
        Sound("ES2011a.A.words1", "w", 34.75, 34.75, True),
        Sound("ES2011a.A.words2", "vocalsound", 36.1, 36.9),
        Sound("ES2011a.A.words3", "w", None, None),
        Sound("ES2011a.A.words4", "w", None, 38.0),
        Sound("ES2011a.A.words5", "w", 39.0, 38.5),
        Sound("ES2011a.A.words6", "w", 40.0, 40.2),
    ]


def test_what_icsi_says_of_words_is_understood(tmp_path: Path) -> None:
    body = "".join(f'<w nite:id="{c}" c="{c}"/>' for c in ("W", "CM", ".", "APOSS", "QM", "TRUNCW"))
    path = tmp_path / "Bmr021.A.words.xml"
    path.write_text(f"<root {NITE}>{body}</root>")
    heard = [sound.name for sound in read_words(path) if not sound.punctuation]
    assert heard == ["W", "APOSS", "TRUNCW"]


def test_segments_name_the_sounds_in_them(tmp_path: Path) -> None:
    path = tmp_path / "Bdb001.A.segs.xml"
    path.write_text(
        f"""<nite:root {NITE}>
        <segment nite:id="Bdb001.segment.1" starttime="0.2" endtime="3.9" participant="me011">
          <nite:child href="Bdb001.A.words.xml#id(Bdb001.w.1)..id(Bdb001.w.1,251)"/>
          <nite:child href="Bdb001.A.words.xml#id(Bdb001.vocalsound.3)"/>
        </segment>
        <segment nite:id="Bdb001.segment.2" starttime="5" endtime=""/>
        </nite:root>"""
    )
    runs = (
        ("Bdb001.w.1", "Bdb001.w.1,251"),
        ("Bdb001.vocalsound.3", "Bdb001.vocalsound.3"),
    )
    assert read_segments(path) == [Stretch(0.2, 3.9, "me011", runs), Stretch(5.0, None, "", ())]


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
