"""Protocols of pyannote.database: the recordings, turns and regions that its own reader gives."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from diarize.errors import ManifestError, RttmError
from diarize.manifest import check_manifest, reference_turns, scored_regions, write_manifest
from diarize.manifest.database import from_database
from diarize.turns import Segment, Turn, clip, in_order

pytest.importorskip("pyannote.database")

YML = """
Databases:
  Talks:
    - audio/{uri}.wav
    - more/{uri}.wav
Protocols:
  Talks:
    SpeakerDiarization:
      Mini:
        scope: file
        train:
          uri: lists/train.lst
          annotation: rttm/all.rttm
          annotated: uem/{uri}.uem
        test:
          uri: lists/test.lst
          annotation: rttm/{database}_{subset}_{uri}.rttm
      Bare:
        scope: database
        development: {uri: lists/train.lst}
    Collection:
      All: {uri: lists/train.lst}
  X:
    SpeakerDiarization:
      Both:
        train:
          Talks.SpeakerDiarization.Mini: [train, test]
"""


@pytest.fixture
def yml(tmp_path: Path) -> Path:
    """A database of three recordings, two for training."""
    files = {
        "lists/train.lst": "b\na\n",
        "lists/test.lst": "c\n",
        "rttm/all.rttm": "SPEAKER a 1 0.50 1.25 <NA> <NA> ann <NA> <NA>\n"
        "SPEAKER b 1 0.25 2.00 <NA> <NA> bob <NA> <NA>\n"
        "SPEAKER a 1 1.50 2.00 <NA> <NA> cleo <NA> <NA>\n",
        "rttm/Talks_test_c.rttm": "SPEAKER c 1 1.00 1.00 <NA> <NA> ann <NA> <NA>\n",
        "uem/a.uem": "a 1 0.000 3.000\n",
        "uem/b.uem": "b 1 0.500 1.000\nb 1 2.000 4.000\n",
        "database.yml": YML,
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    for name in ("audio/a.wav", "audio/b.wav", "more/c.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, np.full(32000, 0.1), 8000)
    return tmp_path / "database.yml"


def as_pyannote_reads(yml: Path, protocol: str, subset: str) -> list[tuple]:
    """Name, place, turns and regions of each recording, by the library's own objects."""
    from pyannote.database.file_finder import FileFinder
    from pyannote.database.registry import Registry

    registry = Registry()
    registry.load_database(yml)
    read = registry.get_protocol(protocol, {"audio": FileFinder(registry)})
    return [
        (
            file["uri"],
            file["audio"],
            [(s.start, s.end, name) for s, _, name in file["annotation"].itertracks(True)],
            None if file["annotated"] is None else [(s.start, s.end) for s in file["annotated"]],
        )
        for file in getattr(read, subset)()
    ]


@pytest.mark.parametrize("subset", ["train", "test"])
@pytest.mark.filterwarnings("ignore:Existing precomputed key:UserWarning")  # turns are cut by it
def test_a_subset_is_what_pyannote_reads(yml: Path, tmp_path: Path, subset: str) -> None:
    sessions = from_database(yml, "Talks.SpeakerDiarization.Mini", subset)
    told = []
    for session in sessions:
        regions = None
        if session.uem is not None:  # outside of which pyannote drops what is said
            regions = [(r.start, r.end) for r in scored_regions(session) or ()]
        turns = [t for r in regions or [(0.0, 9.0)] for t in clip(reference_turns(session), *r)]
        spoken = [(t.start, t.end, t.speaker) for t in in_order(turns)]
        told.append((session.session_id, session.audio, spoken, regions))
    assert told == as_pyannote_reads(yml, "Talks.SpeakerDiarization.Mini", subset)
    write_manifest(tmp_path / "m.jsonl", sessions)
    assert check_manifest(tmp_path / "m.jsonl") == []


def test_the_files_of_the_database_are_named_in_the_order_of_its_list(yml: Path) -> None:
    first, second = from_database(yml, "Talks.SpeakerDiarization.Mini", "train")
    folder = yml.parent
    assert (first.session_id, first.audio, first.rttm, first.uem) == (
        "b", folder / "audio/b.wav", folder / "rttm/all.rttm", folder / "uem/b.uem",
    )  # fmt: skip
    assert (second.session_id, second.num_speakers) == ("a", 2)
    assert scored_regions(first) == [Segment(0.5, 1.0), Segment(2.0, 4.0)]


def test_a_protocol_made_of_others_has_the_recordings_of_all(yml: Path) -> None:
    sessions = from_database(yml, "X.SpeakerDiarization.Both", "train")
    assert [s.session_id for s in sessions] == ["b", "a", "c"]
    assert reference_turns(sessions[2]) == [Turn(1.0, 2.0, "ann")]


def test_a_protocol_need_not_say_who_speaks(yml: Path, tmp_path: Path) -> None:
    for protocol, subset in (("Bare", "development"), ("All", "files")):
        task = "Collection" if protocol == "All" else "SpeakerDiarization"
        sessions = from_database(yml, f"Talks.{task}.{protocol}", subset)
        assert [(s.session_id, s.rttm, s.uem) for s in sessions] == [
            ("b", None, None),
            ("a", None, None),
        ]
        with pytest.raises(
            ManifestError, match=r"Talks\..*: references are to be written to .*ref, b"
        ):
            from_database(yml, f"Talks.{task}.{protocol}", subset, tmp_path / "ref")
    assert not (tmp_path / "ref").exists()


def test_databases_that_are_required_are_read_as_well(yml: Path, tmp_path: Path) -> None:
    (tmp_path / "above").mkdir()
    above = tmp_path / "above" / "database.yml"
    above.write_text("Requirements: ../database.yml\n")
    (session,) = from_database(above, "Talks.SpeakerDiarization.Mini", "test")
    assert session.rttm == tmp_path / "rttm/Talks_test_c.rttm"


def test_who_is_silent_has_an_empty_rttm(yml: Path, tmp_path: Path) -> None:
    text = (tmp_path / "rttm/all.rttm").read_text().splitlines()
    (tmp_path / "rttm/all.rttm").write_text(f"{text[0]}\n{text[2]}\n")
    asked = (yml, "Talks.SpeakerDiarization.Mini", "train")
    with pytest.raises(
        ManifestError, match=r"'b' is not in .*all\.rttm, which has 'a'.*--write-rttm"
    ):
        from_database(*asked)
    first, second = from_database(*asked, tmp_path / "ref")
    assert reference_turns(first) == [] and len(reference_turns(second)) == 2
    assert first.rttm == tmp_path / "ref/b.rttm"


def test_what_there_is_is_told_where_nothing_or_something_else_is_asked(yml: Path) -> None:
    known = (
        r"Talks\.SpeakerDiarization\.Mini \(train, test\); Talks\.SpeakerDiarization\.Bare "
        r"\(development\); Talks\.Collection\.All \(files\); X\.SpeakerDiarization\.Both \(train\)"
    )
    with pytest.raises(
        ManifestError, match=rf"database\.yml: no protocol is named, but .*: {known}"
    ):
        from_database(yml)
    with pytest.raises(
        ManifestError, match=rf"protocol 'Talks\.Mini' is asked for, but .*: {known}"
    ):
        from_database(yml, "Talks.Mini", "train")
    with pytest.raises(
        ManifestError, match=r"no subset is named, but there are: train, test\. Give"
    ):
        from_database(yml, "Talks.SpeakerDiarization.Mini")
    with pytest.raises(
        ManifestError, match=r"subset 'dev' of .*Mini is asked for, but .*: train, te"
    ):
        from_database(yml, "Talks.SpeakerDiarization.Mini", "dev")


@pytest.mark.parametrize(
    ("broken", "text", "message"),
    [
        ("database.yml", None, r"database\.yml: is no file, but database\.yml is one\."),
        ("database.yml", "a: [", r"database\.yml: pyannote\.database cannot read it \(ParserError"),
        ("database.yml", "", r"database\.yml: pyannote\.database cannot read it \(AttributeError"),
        ("lists/test.lst", None, r"database\.yml: Talks\..*\.test: FileNotFoundError: .*test\.lst"),
        ("lists/test.lst", "d\n", r"database\.yml: Talks\..*\.test: FileNotFoundError: .*test_d"),
        ("rttm/Talks_test_c.rttm", None, r"Talks\..*\.test: FileNotFoundError: .*test_c\.rttm"),
        ("rttm/Talks_test_c.rttm", "x", r"test_c\.rttm:1: line begins with 'x', but an RTTM"),
        (
            "database.yml", YML.replace("{uri}.rttm", "{uri}.lab"),
            r"SpeakerDiarization\.Mini\.test: 'annotation' is rttm/.*\.lab, but it must",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told(
    yml: Path, tmp_path: Path, broken: str, text: str | None, message: str
) -> None:
    (tmp_path / broken).unlink()
    if text is not None:
        (tmp_path / broken).write_text(text)
    with pytest.raises((ManifestError, RttmError), match=message):
        from_database(yml, "Talks.SpeakerDiarization.Mini", "test")


def test_a_recording_without_regions_is_told(yml: Path, tmp_path: Path) -> None:
    (tmp_path / "uem/a.uem").write_text("other 1 0 1\n")
    with pytest.raises(ManifestError, match=r"session 'a' is not in .*a\.uem, which has 'other'"):
        from_database(yml, "Talks.SpeakerDiarization.Mini", "train")


def test_standard_output_is_left_to_the_manifest(yml: Path, capsys: pytest.CaptureFixture) -> None:
    yml.write_text(YML.replace("        scope: file\n", ""))  # which the library remarks on
    from_database(yml, "Talks.SpeakerDiarization.Mini", "test")
    captured = capsys.readouterr()
    assert captured.out == "" and "scope" in captured.err
