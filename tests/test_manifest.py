import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from diarize.errors import AudioError, ManifestError, RttmError
from diarize.manifest import (
    Session,
    build_manifest,
    read_manifest,
    reference_turns,
    scored_regions,
    write_manifest,
)
from diarize.turns import Segment, Turn

NEMO = {
    "audio_filepath": "audio/a.wav", "offset": 0.5, "duration": None, "label": "infer", "text": "-",
    "num_speakers": 2, "rttm_filepath": "ref/a.rttm", "uem_filepath": "ref/a.uem",
    "ctm_filepath": None,
}  # fmt: skip


@pytest.fixture
def manifest(tmp_path):
    """A function that writes lines, as dictionaries or text, and returns the path."""

    def write(*lines):
        path = tmp_path / "sessions.jsonl"
        texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
        path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
        return path

    return write


@pytest.fixture
def tone(tmp_path):
    """A function that writes a tone below the test's folder and returns its path."""

    def write(name, duration=2.0, sample_rate=8000):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        time = np.arange(round(duration * sample_rate)) / sample_rate
        soundfile.write(path, 0.1 * np.sin(2 * np.pi * 200 * time), sample_rate)
        return path

    return write


# Reading


def test_a_line_of_nemo_is_a_session(manifest, tmp_path):
    (session,) = read_manifest(manifest(NEMO))
    assert session == Session(
        session_id="a",
        audio=tmp_path / "audio/a.wav",
        offset=0.5,
        duration=None,
        rttm=tmp_path / "ref/a.rttm",
        uem=tmp_path / "ref/a.uem",
        num_speakers=2,
        extra={"label": "infer", "text": "-"},
    )
    assert session.where == f"{tmp_path}/sessions.jsonl:1"
    assert session.end == math.inf


def test_only_the_recording_must_be_named(manifest, tmp_path):
    (session,) = read_manifest(manifest({"audio_filepath": "/data/b.c.flac"}))
    assert session == Session(session_id="b.c", audio=Path("/data/b.c.flac"))


def test_the_other_names_that_nemo_reads_are_read(manifest, tmp_path):
    first = {"audio_filename": "a.wav", "rttm_file": "a.rttm"}
    second = {"audio_file": "b.wav", "rttm_filename": "b.rttm", "speaker_id": 1034}
    sessions = read_manifest(manifest(first, second))
    assert [s.audio.name for s in sessions] == ["a.wav", "b.wav"]
    assert [s.rttm and s.rttm.name for s in sessions] == ["a.rttm", "b.rttm"]
    assert sessions[1].speaker == "1034"


def test_the_session_is_named_by_session_id_then_uniq_id_then_the_file(manifest):
    line = {"audio_filepath": "a.wav"}
    lines = [line | {"uniq_id": "u", "session_id": "s"}, line | {"uniq_id": "u"}, line]
    assert [s.session_id for s in read_manifest(manifest(*lines))] == ["s", "u", "a"]


def test_lines_keep_their_order_and_empty_ones_still_count(manifest):
    lines = [{"audio_filepath": f"{name}.wav"} for name in "zay"]
    sessions = read_manifest(manifest(lines[0], "", lines[1], "  ", lines[2]))
    assert [s.session_id for s in sessions] == ["z", "a", "y"]
    assert [s.where.rpartition(":")[2] for s in sessions] == ["1", "3", "5"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'audio_filepath': 'a.wav'}", r"is not JSON \(Expecting property name.* at column 2\)"),
        ("[1, 2]", r"is \[1, 2\], but a manifest has one \{…\} a line"),
        ({"offset": 1.0}, r"has no 'audio_filepath', but a session needs a recording\. Add"),
        ({"audio_filepath": 7}, r"'audio_filepath' is 7, but it must be a path in quotes"),
        ({"audio_filepath": ""}, r"'audio_filepath' is \"\", but it must be a path"),
        ({"offset": -1.5}, r"'offset' is -1\.5 s, but it may not be negative\. Write 0"),
        ({"offset": "1.5"}, r"'offset' is \"1\.5\", but it must be a number of seconds\. Write"),
        ({"offset": True}, r"'offset' is true, but it must be a number of seconds"),
        ({"duration": -2}, r"'duration' is -2 s, but it may not be negative\. .* null for all"),
        ({"duration": 0}, r"'duration' is 0, but a session lasts\. Write null"),
        ({"duration": math.nan}, r"'duration' is NaN, but seconds are finite\. Write null"),
        ({"duration": 10**400}, r"'duration' is 10+\.\.\., but seconds are finite"),
        ({"num_speakers": 2.5}, r"'num_speakers' is 2\.5, but it must be a whole number"),
        ({"num_speakers": "two"}, r"'num_speakers' is \"two\", but it must be a whole number"),
        ({"channel": -1}, r"'channel' is -1, but it must be a whole number, 0 or more, or null"),
        ({"channel": "1"}, r"'channel' is \"1\", but it must be a whole number"),
        ({"rttm_filepath": ["a"]}, r"'rttm_filepath' is \[\"a\"\], but it must be a path"),
        ({"session_id": ["a"]}, r"'session_id' is \[\"a\"\], but it must be a name"),
        ({"speaker": " "}, r"'speaker' is \" \", but it must be a name"),
    ],
)
def test_a_faulty_line_is_told_with_its_place(manifest, line, message):
    if isinstance(line, dict) and not message.startswith("has no 'audio_filepath'"):
        line = {"audio_filepath": "a.wav"} | line
    path = manifest({"audio_filepath": "good.wav"}, line)
    with pytest.raises(ManifestError, match=rf"sessions\.jsonl:2: {message}"):
        read_manifest(path)


def test_a_manifest_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ManifestError, match=r"gone\.jsonl: cannot be read \(No such file"):
        read_manifest(tmp_path / "gone.jsonl")


# Writing


def test_a_line_that_was_read_is_written_again(manifest, tmp_path):
    line = NEMO | {"session_id": "s", "corpus": {"name": "ami", "year": 2005}, "uniq_id": "u"}
    copy = tmp_path / "copy.jsonl"
    write_manifest(copy, read_manifest(manifest(line)))
    del line["ctm_filepath"]
    assert json.loads(copy.read_text()) == line
    assert read_manifest(copy) == read_manifest(manifest(line))


def test_paths_near_the_manifest_are_relative_and_others_are_full(tmp_path):
    folder = tmp_path / "a/b/c"
    folder.mkdir(parents=True)
    places = ["a/b/c/x.wav", "a/b/x.wav", "a/x.wav", "x.wav"]
    write_manifest(folder / "m.jsonl", [Session("s", tmp_path / place) for place in places])
    lines = (folder / "m.jsonl").read_text().splitlines()
    written = [json.loads(line)["audio_filepath"] for line in lines]
    assert written == ["x.wav", "../x.wav", "../../x.wav", str(tmp_path / "x.wav")]


def test_a_manifest_in_a_linked_folder_still_finds_its_recordings(tmp_path, tone):
    audio = tone("data/audio/x.wav")
    (tmp_path / "data/lists/deep").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "data/lists/deep")
    write_manifest(tmp_path / "link/m.jsonl", [Session("s", audio)])
    (session,) = read_manifest(tmp_path / "link/m.jsonl")
    assert session.audio.samefile(audio)


def test_on_a_stream_paths_are_full(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stream = io.StringIO()
    write_manifest(stream, [Session("s", Path("x.wav"), speaker="Зоя")])
    assert json.loads(stream.getvalue()) == {
        "audio_filepath": str(tmp_path / "x.wav"), "offset": 0.0, "duration": None,
        "speaker": "Зоя", "session_id": "s",
    }  # fmt: skip
    assert "Зоя" in stream.getvalue()


SESSIONS = st.builds(
    Session,
    session_id=st.text("abc-_.1", min_size=1, max_size=6),
    audio=st.sampled_from(("a.wav", "b/c.flac", "b/ü.mp3")).map(Path),
    offset=st.floats(0, 1e5),
    duration=st.none() | st.floats(0.001, 1e5),
    rttm=st.none() | st.just(Path("ref.rttm")),
    speaker=st.none() | st.text("xyz ", min_size=1).filter(str.strip),
    num_speakers=st.none() | st.integers(0, 20),
    channel=st.none() | st.integers(0, 7),
    extra=st.dictionaries(st.text("klm", min_size=1), st.none() | st.integers() | st.text("ü 日")),
)


@settings(deadline=None, max_examples=25)
@given(st.lists(SESSIONS, max_size=2))
def test_sessions_survive_writing_and_reading(tmp_path_factory, sessions):
    folder = tmp_path_factory.getbasetemp().resolve()

    def place(session):
        rttm = session.rttm and folder / session.rttm
        return Session(**(vars(session) | {"audio": folder / session.audio, "rttm": rttm}))

    write_manifest(folder / "round_trip.jsonl", [place(s) for s in sessions])
    assert read_manifest(folder / "round_trip.jsonl") == [place(s) for s in sessions]


# References


@pytest.fixture
def ref(tmp_path):
    path = tmp_path / "ref.rttm"
    path.write_text(
        "SPEAKER a 1 0.0 2.0 <NA> <NA> x <NA> <NA>\n"
        "SPEAKER b 1 0.0 9.0 <NA> <NA> z <NA> <NA>\n"
        "SPEAKER a 1 1.5 3.0 <NA> <NA> y <NA> <NA>\n"
    )
    return path


def test_reference_turns_are_those_of_the_session_clipped_to_its_span(ref):
    #  recording  0    1    2    3    4    5
    #  x          |---------|
    #  y                 |--------------|
    #  session         |-------------|         turns keep the time of the recording
    whole = Session("a", Path("a.wav"), rttm=ref)
    assert reference_turns(whole) == [Turn(0.0, 2.0, "x"), Turn(1.5, 4.5, "y")]
    part = Session("a", Path("a.wav"), offset=1.25, duration=3.0, rttm=ref)
    assert reference_turns(part) == [Turn(1.25, 2.0, "x"), Turn(1.5, 4.25, "y")]
    assert reference_turns(Session("a", Path("a.wav"), offset=5.0, rttm=ref)) == []


def test_a_reference_without_the_session_is_an_error_that_lists_what_there_is(ref):
    session = Session("c", Path("c.wav"), rttm=ref, where="m.jsonl:3")
    with pytest.raises(ManifestError, match=r"m\.jsonl:3: .* 'c' is not in .*'a', 'b'\. Give"):
        reference_turns(session)
    with pytest.raises(ManifestError, match=r"session 'c' has no 'rttm_filepath', but"):
        reference_turns(Session("c", Path("c.wav")))


def test_an_empty_reference_means_that_nobody_speaks(ref):
    ref.write_text(";; silence\n")
    assert reference_turns(Session("a", Path("a.wav"), rttm=ref)) == []


def test_a_reference_that_changed_is_read_again(ref):
    session = Session("b", Path("b.wav"), rttm=ref)
    assert reference_turns(session) == [Turn(0.0, 9.0, "z")]
    ref.write_text("SPEAKER b 1 0.0 1.25 <NA> <NA> z <NA> <NA>\n")
    assert reference_turns(session) == [Turn(0.0, 1.25, "z")]


def test_scored_regions_are_those_of_the_uem_within_the_span(tmp_path, tone):
    uem = tmp_path / "a.uem"
    uem.write_text("a 1 0 10\na 1 20 30\na 1 40 50\n")
    session = Session("a", Path("a.wav"), offset=5.0, duration=20.0, uem=uem)
    assert scored_regions(session) == [Segment(5.0, 10.0), Segment(20.0, 25.0)]
    with pytest.raises(ManifestError, match=r"'b' is not in .*a\.uem, which has 'a'\."):
        scored_regions(Session("b", Path("a.wav"), uem=uem))


def test_without_a_uem_the_span_is_scored(tone):
    audio = tone("a.wav")
    assert scored_regions(Session("a", audio)) is None
    assert scored_regions(Session("a", audio, 0.5, 1.0)) == [Segment(0.5, 1.5)]
    assert scored_regions(Session("a", audio, 0.5)) == [Segment(0.5, 2.0)]


# Building


def test_recordings_become_sessions_with_references_found_by_name_or_by_id(tmp_path, tone):
    for name in ("audio/b.wav", "audio/deep/A.FLAC", "audio/.hidden.wav", "c.ogg"):
        tone(name)
    (tmp_path / "audio/notes.txt").write_text("no audio")
    line = "SPEAKER {} 1 0.0 1.0 <NA> <NA> {} <NA> <NA>\n"
    (tmp_path / "ref").mkdir()
    (tmp_path / "ref/b.rttm").write_text(
        line.format("corpus-b", "x") + line.format("corpus-b", "y")
    )
    (tmp_path / "ref/rest.rttm").write_text(line.format("A", "x") + line.format("c", "z"))
    (tmp_path / "all.uem").write_text("A 1 0 1\ncorpus-b 1 0 1\nc 1 0 1\n")
    audio = [tmp_path / "audio", tmp_path / "c.ogg", tmp_path / "audio/b.wav"]
    sessions = build_manifest(audio, tmp_path / "ref", tmp_path / "all.uem")
    assert [s.session_id for s in sessions] == ["corpus-b", "A", "c"]
    assert [s.rttm and s.rttm.name for s in sessions] == ["b.rttm", "rest.rttm", "rest.rttm"]
    assert [s.num_speakers for s in sessions] == [2, 1, 1]
    assert [s.duration for s in sessions] == [2.0] * 3
    assert {s.uem and s.uem.name for s in sessions} == {"all.uem"}
    assert all(len(reference_turns(s)) == s.num_speakers for s in sessions)


def test_scored_regions_bear_the_id_of_the_session(tmp_path, tone):
    audio, uem = tone("a.wav"), tmp_path / "a.uem"
    uem.write_text("other 1 0 1\n")
    message = r"no \.uem file here has the session id 'a' \(.*a\.uem has 'other'\)\. .* mend the id"
    with pytest.raises(ManifestError, match=message):
        build_manifest([audio], uem=tmp_path)
    (tmp_path / "a.rttm").write_text("SPEAKER other 1 0.0 1.0 <NA> <NA> x <NA> <NA>\n")
    (session,) = build_manifest([audio], tmp_path / "a.rttm", tmp_path)
    assert (session.session_id, session.uem) == ("other", uem)
    assert scored_regions(session) == [Segment(0.0, 1.0)]


def test_without_references_nothing_is_said_about_speakers(tone):
    (session,) = build_manifest([tone("a.wav")])
    assert (session.rttm, session.uem, session.num_speakers) == (None, None, None)
    assert session.extra == {"label": "infer", "text": "-"}


def test_building_says_what_is_missing_or_ambiguous(tmp_path, tone):
    audio, folder = tone("a.wav"), tmp_path / "ref"
    (folder / "other").mkdir(parents=True)
    line = "SPEAKER {} 1 0.0 1.0 <NA> <NA> x <NA> <NA>\n"
    with pytest.raises(ManifestError, match=r"ref: has no \*\.rttm file, but references are"):
        build_manifest([audio], folder)
    (folder / "z.rttm").write_text(line.format("z"))
    with pytest.raises(
        ManifestError, match=r"no \.rttm file here has the session id 'a', 'b'\. Add"
    ):
        build_manifest([audio, tone("b.wav")], folder)
    (folder / "a.rttm").write_text(line.format("a"))
    (folder / "other/a.rttm").write_text(line.format("a"))
    with pytest.raises(ManifestError, match=r"'a' is in .*a\.rttm and in .*other/a\.rttm, but one"):
        build_manifest([audio], folder)
    with pytest.raises(ManifestError, match=r"other: this folder has no recordings; .*\.wav"):
        build_manifest([folder / "other"])
    with pytest.raises(AudioError, match=r"gone\.wav: cannot be read \(No such"):
        build_manifest([tmp_path / "gone.wav"])
    (folder / "z.rttm").write_text("nonsense\n")
    with pytest.raises(RttmError, match=r"z\.rttm:1: line begins with 'nonsense'"):
        build_manifest([tone("z.wav")], folder)


def test_names_that_could_not_be_told_apart_or_written_are_refused(tone):
    with pytest.raises(ManifestError, match=r"y/a\.flac: its session would be 'a', as .*x/a\.wav"):
        build_manifest([tone("x/a.wav"), tone("y/a.flac")])
    with pytest.raises(ManifestError, match=r"my talk\.wav: .*white space.* Rename the file"):
        build_manifest([tone("my talk.wav")])


# Features


def test_a_line_may_name_features(manifest, tmp_path):
    line = {"feature_filepath": "f/a.npy", "frame_shift": 0.04, "offset": 1, "duration": 2.5}
    (session,) = read_manifest(manifest(line | {"rttm_filepath": "a.rttm", "num_speakers": 3}))
    assert (session.session_id, session.audio) == ("a", tmp_path / "f/a.npy")
    assert (session.frame_shift, session.offset, session.duration) == (0.04, 1.0, 2.5)
    assert session.rttm == tmp_path / "a.rttm" and session.num_speakers == 3 and not session.extra


def test_features_are_written_as_they_were_read(manifest, tmp_path):
    line = {"feature_filepath": "a.npy", "frame_shift": 0.04, "offset": 0.0, "duration": None}
    sessions = read_manifest(manifest(line))
    write_manifest(tmp_path / "copy.jsonl", sessions)
    assert json.loads((tmp_path / "copy.jsonl").read_text()) == line | {"session_id": "a"}
    assert read_manifest(tmp_path / "copy.jsonl") == sessions


def test_a_frame_shift_beside_audio_is_carried(manifest):
    (session,) = read_manifest(manifest({"audio_filepath": "a.wav", "frame_shift": 0.01}))
    assert session.frame_shift is None and session.extra == {"frame_shift": 0.01}


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ({"frame_shift": 0.1}, "has no 'audio_filepath', but a session needs a recording. Add the"),
        (
            {"feature_filepath": "a.npy"},
            "has 'feature_filepath', but no 'frame_shift'. Add the sec",
        ),
        (
            {"feature_filepath": "a.npy", "frame_shift": "0.1"},
            "'frame_shift' is \"0.1\", but it must be a number of seconds.",
        ),
        ({"feature_filepath": "a.npy", "frame_shift": -1}, "'frame_shift' is -1 s, but it may not"),
        (
            {"feature_filepath": "a.npy", "frame_shift": 0},
            "frame_shift is 0 s, but it may be from 0.01 s to 1e+09 s. Give the seconds",
        ),
        ({"feature_filepath": 7, "frame_shift": 1}, "'feature_filepath' is 7, but it must be a pa"),
        (
            {"audio_filepath": "a.npy", "frame_shift": 0.1},
            "'audio_filepath' is \"a.npy\", but that is an array by its name. Write "
            "'feature_filepath' for it, and 'frame_shift'.",
        ),
        (
            {"audio_filepath": "x/a.wav", "feature_filepath": "a.npz", "frame_shift": 0.1},
            "has 'audio_filepath' \"a.wav\" and 'feature_filepath' \"a.npz\", but a session has "
            "one recording. Leave one out.",
        ),
        (
            {"feature_filepath": "a.npy", "frame_shift": 0.1, "channel": 0},
            "has 'feature_filepath' and 'channel' 0, but features have none. Leave the channel out",
        ),
    ],
)
def test_features_that_a_line_cannot_name(manifest, line, fault):
    with pytest.raises(ManifestError) as caught:
        read_manifest(manifest(line))
    assert fault in str(caught.value) and "sessions.jsonl:1: " in str(caught.value)


def test_the_span_of_features_is_scored_to_their_last_row(manifest, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((75, 2), dtype=np.float32))
    line = {"feature_filepath": "a.npy", "frame_shift": 0.08, "offset": 2.0}
    assert scored_regions(*read_manifest(manifest(line))) == [Segment(2.0, 6.0)]
