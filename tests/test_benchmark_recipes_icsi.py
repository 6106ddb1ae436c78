"""recipes/icsi on a miniature of the corpus: every meeting, speaker and time arrives."""

from pathlib import Path

import pytest
from miniatures import RECIPES, prepared, regions, run, truth, write, write_noise

from diarize.benchmark import read_list

LISTS = RECIPES.parent / "manifests" / "icsi"
NITE = 'xmlns:nite="http://nite.sourceforge.net/"'
HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
SECONDS = 5.0

# Of each agent: who it is, his words, his segments. Words 1 to 4 of the first touch; 6 to 8 have
# one start and one end together, as "two hour long" in the corpus; 1,009 has none.
PEOPLE = {
    "A": (
        "me011",
        """
        <w nite:id="{m}.w.1" starttime="0.5" endtime="0.75" c="W">you</w>
        <w nite:id="{m}.w.2" starttime="0.75" endtime="0.9" c="APOSS">'re</w>
        <w nite:id="{m}.w.3" starttime="0.9" endtime="0.9" c="CM">,</w>
        <w nite:id="{m}.w.4" starttime="0.9" endtime="1.2" c="TRUNCW">r</w>
        <disfmarker nite:id="{m}.disfmarker.1"/>
        <w nite:id="{m}.w.6" starttime="2.0" endtime="" c="W">two</w>
        <w nite:id="{m}.w.7" starttime="" endtime="" c="W">hour</w>
        <w nite:id="{m}.w.8" starttime="" endtime="2.6" c="W">long</w>
        <vocalsound nite:id="{m}.vocalsound.1" starttime="3.0" endtime="3.4" description="laugh"/>
        <w nite:id="{m}.w.1,009" c="CD">nine</w>
        """,
        """
        <segment nite:id="{m}.segment.1" starttime="0.4" endtime="1.3" participant="me011">
          <nite:child href="{m}.A.words.xml#id({m}.w.1)..id({m}.disfmarker.1)"/>
        </segment>
        <segment nite:id="{m}.segment.2" starttime="1.9" endtime="2.8" participant="me011">
          <nite:child href="{m}.A.words.xml#id({m}.w.6)..id({m}.w.8)"/>
        </segment>
        <segment nite:id="{m}.segment.3" starttime="2.9" endtime="3.5" participant="me011">
          <nite:child href="{m}.A.words.xml#id({m}.vocalsound.1)"/>
        </segment>
        <segment nite:id="{m}.segment.4" starttime="4.0" endtime="4.5" participant="me011">
          <nite:child href="{m}.A.words.xml#id({m}.w.1,009)"/>
        </segment>
        """,
    ),
    "B": (
        "fe008",
        '<w nite:id="{m}.w.20" starttime="1.0" endtime="1.4" c="W">Yes</w>',
        """
        <segment nite:id="{m}.segment.9" starttime="0.9" endtime="1.5" participant="fe008">
          <nite:child href="{m}.B.words.xml#id({m}.w.20)"/>
        </segment>
        """,
    ),
    "C": ("", "", ""),  # three agents of the corpus have empty files
}


def build(folder: Path, meetings: list[str], recording: str = "SPH/{}/chan6.sph") -> Path:
    """The corpus as its download page lays it out, with these meetings."""
    for name in meetings:
        write_noise(folder / recording.format(name), SECONDS)
        for agent, (_, words, segments) in PEOPLE.items():
            for place, kind, body in (("Words", "words", words), ("Segments", "segs", segments)):
                text = body.format(m=name)
                write(
                    folder / "ICSI" / place / f"{name}.{agent}.{kind}.xml",
                    f'{HEAD}<nite:root nite:id="{name}.{agent}.{kind}" {NITE}>{text}</nite:root>\n',
                )
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    meetings = read_list(LISTS / "test.txt") + read_list(LISTS / "dev.txt")
    return build(tmp_path_factory.mktemp("icsi"), meetings)


def test_the_split_is_that_of_kaldi() -> None:
    assert read_list(LISTS / "dev.txt") == ["Bmr021", "Bns001"]
    assert read_list(LISTS / "test.txt") == ["Bmr013", "Bmr018", "Bro021"]
    assert len(read_list(LISTS / "train.txt")) == 70


def test_segments_with_words_are_turns(corpus: Path, tmp_path: Path) -> None:
    sessions = prepared("icsi", corpus, tmp_path / "data")
    assert [session.session_id for session in sessions] == ["Bmr013", "Bmr018", "Bro021"]
    for session in sessions:
        assert truth(session) == [
            (0.4, 1.3, "me011"), (0.9, 1.5, "fe008"), (1.9, 2.8, "me011"), (4.0, 4.5, "me011"),
        ]  # fmt: skip
        assert regions(session) == [(0.0, SECONDS)]
        assert session.audio.resolve() == corpus / "SPH" / session.session_id / "chan6.sph"
        assert session.extra["reference"] == "segments"


def test_words_with_times_are_turns(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    options = ("--reference", "words", "--split", "dev")
    for session in prepared("icsi", corpus, tmp_path / "data", *options):
        assert truth(session) == [(0.5, 1.2, "me011"), (1.0, 1.4, "fe008"), (2.0, 2.6, "me011")]
    assert "note: 2 words have no times; they are left out" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["NXT/{}.interaction.wav", "speech/{}/Mix-Headset.wav"])
def test_headset_mixes_lie_as_downloaded_or_as_lhotse_lays_them(place: str, tmp_path: Path) -> None:
    build(tmp_path / "icsi", read_list(LISTS / "test.txt"), place)
    sessions = prepared("icsi", tmp_path / "icsi", tmp_path / "data", "--microphone", "mhm")
    assert [s.audio.resolve() for s in sessions] == [
        tmp_path / "icsi" / place.format(s.session_id) for s in sessions
    ]


def test_what_is_missing_is_named(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run("icsi", corpus, tmp_path / "data", "--split", "train") == 1
    said = capsys.readouterr().err
    assert (
        "lacks 70 of 70 files (Bdb001/chan6.*, " in said and "but train of ICSI needs all" in said
    )
    assert run("icsi", corpus, tmp_path / "data", "--microphone", "mhm") == 1
    said = capsys.readouterr().err
    assert "(Bmr013.interaction.wav or Bmr013/Mix-Headset.wav, " in said
    assert not (tmp_path / "data").exists()


def test_segments_are_needed_as_well(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    build(tmp_path / "icsi", read_list(LISTS / "test.txt"))
    (tmp_path / "icsi" / "ICSI" / "Segments" / "Bro021.B.segs.xml").unlink()
    assert run("icsi", tmp_path / "icsi", tmp_path / "data") == 1
    assert "Segments/Bro021.B.segs.xml: cannot be read (No such file" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_lhotse_reads_the_same_segments(corpus: Path, tmp_path: Path) -> None:
    """lhotse's segments begin and end with their words, so they lie within ours."""
    pytest.importorskip("lhotse")
    from lhotse.recipes.icsi import parse_icsi_annotations

    write(corpus / "ICSI" / "preambles.mrt", PREAMBLES)
    theirs, _ = parse_icsi_annotations(corpus / "ICSI")
    (session, *_) = prepared("icsi", corpus, tmp_path / "data")
    ours = truth(session)
    found = [
        (speaker, segment.start_time, segment.end_time)
        for (meeting, speaker, _), segments in theirs.items()
        if meeting == session.session_id
        for segment in segments
    ]
    assert sorted(found) == [("fe008", 1.0, 1.4), ("me011", 0.5, 1.2)]  # untimed words are lost
    for speaker, start, end in found:
        assert any(s <= start and end <= e and speaker == name for s, e, name in ours)


PREAMBLES = f"""<Meetings>{
    "".join(
        f'<Meeting Session="{name}"><Preamble><Channels><Channel Name="chan1"/></Channels>'
        '<Participants><Participant Name="me011" Channel="chan1"/><Participant Name="fe008"/>'
        "</Participants></Preamble></Meeting>"
        for name in ("Bmr013", "Bmr018", "Bro021", "Bmr021", "Bns001")
    )
}</Meetings>"""
