"""Lhotse's manifests: as lhotse writes and reads them, there and back."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from diarize.audio import read_audio
from diarize.errors import AudioError, ManifestError, RttmError
from diarize.formats.rttm import write_rttm
from diarize.manifest import Session, reference_turns
from diarize.manifest.lhotse import from_lhotse, to_lhotse
from diarize.turns import Turn, clip, in_order

lhotse = pytest.importorskip("lhotse")


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Two recordings of 8 s of noise, 16 kHz, and one of two channels."""
    folder = tmp_path_factory.mktemp("recordings")
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (128000, 2))
    soundfile.write(folder / "x.wav", noise[:, 0], 16000)
    soundfile.write(folder / "y.flac", noise[:, 1], 16000)
    soundfile.write(folder / "stereo.wav", noise, 16000)
    return folder


def supervision(name, start, duration, speaker, recording="x", **more):
    return lhotse.SupervisionSegment(name, recording, start, duration, speaker=speaker, **more)


@pytest.fixture
def cut(recordings):
    """Six seconds of a recording, from 1.5 s on; ann and bob speak, ann beyond the end."""
    #  recording  0     1     2     3     4     5     6     7     8
    #  cut                 |----------------------------------|
    #  ann                       |-----------|             |-----|
    #  bob                                |--------|
    recording = lhotse.Recording.from_file(recordings / "x.wav")
    spoken = [
        supervision("u0", 1.0, 2.0, "ann", text="good day"),
        supervision("u1", 2.5, 1.5, "bob"),
        supervision("u2", 5.5, 1.0, "ann"),
    ]
    return lhotse.MonoCut("talk", 1.5, 6.0, 0, supervisions=spoken, recording=recording)


TURNS = [Turn(2.5, 4.5, "ann"), Turn(4.0, 5.5, "bob"), Turn(7.0, 7.5, "ann")]


def stored(path, *cuts):
    lhotse.CutSet.from_cuts(cuts).to_file(path)
    return path


# Reading


@pytest.mark.parametrize("name", ["cuts.jsonl", "cuts.jsonl.gz", "cuts.json"])
def test_a_cut_is_a_session_and_its_supervisions_the_reference(tmp_path, recordings, cut, name):
    path = stored(tmp_path / name, cut)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(ManifestError, match=r"cuts\..*: has supervisions, but .* --write-rttm DIR"):
        from_lhotse(path)
    assert sorted(tmp_path.rglob("*")) == before
    (session,) = from_lhotse(path, write_rttm=tmp_path / "ref")
    rttm = tmp_path / "ref" / "talk.rttm"
    assert session == Session("talk", recordings / "x.wav", 1.5, 6.0, rttm, num_speakers=2)
    assert session.where == f"{path}: cut 'talk'"
    assert reference_turns(session) == TURNS


def test_a_supervision_is_an_utterance_where_one_asks(tmp_path, cut):
    lines = from_lhotse(stored(tmp_path / "cuts.jsonl", cut), utterances=True)
    told = [(s.session_id, s.offset, s.duration, s.speaker, dict(s.extra)) for s in lines]
    assert told == [
        ("u0", 2.5, 2.0, "ann", {"text": "good day"}),
        ("u1", 4.0, 1.5, "bob", {}),
        ("u2", 7.0, 0.5, "ann", {}),
    ]


def test_a_cut_without_supervisions_is_silent_where_others_speak(tmp_path, cut):
    silent = lhotse.MonoCut("quiet", 0.0, 1.0, 0, recording=cut.recording)
    path = stored(tmp_path / "cuts.jsonl", cut, silent)
    _, session = from_lhotse(path, write_rttm=tmp_path / "ref")
    assert reference_turns(session) == [] and session.num_speakers == 0
    (session,) = from_lhotse(stored(tmp_path / "one.jsonl", silent))
    assert (session.rttm, session.num_speakers) == (None, None)
    with pytest.raises(
        ManifestError, match=r"one\.jsonl: references are to be written to ref, but"
    ):
        from_lhotse(tmp_path / "one.jsonl", write_rttm="ref")


def test_recordings_are_sessions_with_supervisions_beside_them(tmp_path, recordings):
    found = [lhotse.Recording.from_file(recordings / name) for name in ("y.flac", "x.wav")]
    lhotse.RecordingSet.from_recordings(found).to_file(tmp_path / "recordings.jsonl.gz")
    spoken = [supervision("u", 2.5, 2.0, "ann"), supervision("v", 1.0, 0.5, "bob")]
    lhotse.SupervisionSet.from_segments(spoken).to_file(tmp_path / "supervisions.jsonl.gz")
    path, beside = tmp_path / "recordings.jsonl.gz", tmp_path / "supervisions.jsonl.gz"
    assert [(s.session_id, s.rttm) for s in from_lhotse(path)] == [("y", None), ("x", None)]
    quiet, talk = from_lhotse(path, beside, write_rttm=tmp_path / "ref")
    assert (talk.audio, talk.offset, talk.duration) == (recordings / "x.wav", 0.0, 8.0)
    assert reference_turns(quiet) == []
    assert reference_turns(talk) == [Turn(1.0, 1.5, "bob"), Turn(2.5, 4.5, "ann")]
    with pytest.raises(
        ManifestError, match=r"recordings.*: is a RecordingSet, but .* needs a Supe"
    ):
        from_lhotse(path, path)
    with pytest.raises(
        ManifestError, match=r"supervisions.*: is a SupervisionSet, but sessions co"
    ):
        from_lhotse(beside)
    cuts = stored(tmp_path / "cuts.jsonl", found[0].to_cut())
    with pytest.raises(ManifestError, match=r"supervisions are given, but .*cuts\.jsonl has cuts"):
        from_lhotse(cuts, beside)


def unusual(kind, recordings, cut):
    """A cut that is no span of a file as it sounds."""
    if kind == "mixed":
        return cut.append(cut)
    if kind == "several channels":
        return lhotse.Recording.from_file(recordings / "stereo.wav").to_cut()
    if kind == "other channels":
        source = lhotse.AudioSource("file", [1, 2], str(recordings / "stereo.wav"))
        whole = lhotse.Recording("r", [source], 16000, 128000, 8.0)
        return lhotse.MonoCut("one", 0.0, 1.0, 1, recording=whole)
    if kind == "several files":
        sources = [lhotse.AudioSource("file", [n], f"{n}.wav") for n in (0, 1)]
        whole = lhotse.Recording("r", sources, 16000, 128000, 8.0)
        return lhotse.MonoCut("one", 0.0, 1.0, 1, recording=whole)
    if kind == "padding":
        return lhotse.cut.PaddingCut("pad", 1.0, 16000, -23.0, num_samples=16000)
    if kind == "speed":
        return cut.perturb_speed(1.1)
    if kind in ("memory", "command", "shar"):
        source = lhotse.AudioSource(kind, [0], "cat x.wav")
        recording = lhotse.Recording("r", [source], 16000, 128000, 8.0)
        return lhotse.MonoCut("no file", 0.0, 1.0, 0, recording=recording)
    assert kind == "features"
    features = lhotse.Features("fbank", 100, 80, 0.01, 16000, 0.0, 1.0, "none", "f", "k")
    return lhotse.MonoCut("rows", 0.0, 1.0, 0, features=features)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("mixed", r"cut '.*' is a MixedCut, but a session is 1 span of 1 recording"),
        ("several channels", r"cut '.*' is a MultiCut, but a session is 1 span"),
        ("padding", r"cut 'pad' is a PaddingCut, but a session is 1 span"),
        ("features", r"cut 'rows' is only features, but a session is 1 span"),
        ("other channels", r"cut 'one': 'r' calls its channels \[1, 2\], but they are counted fr"),
        ("several files", r"cut 'one': 'r' lies in 2 files, but a session is a span of 1\. Write"),
        ("speed", r"cut '.*': '.*' sounds other than its file, by Speed, but files are read as"),
        ("memory", r"cut 'no file': 'r' lies in memory, but recordings are read from files\. Wr"),
        ("command", r"cut 'no file': 'r' lies in command, but recordings are read from files\."),
        ("shar", r"cut 'no file': 'r' lies in shar, but recordings are read from files\. Write"),
    ],
)
def test_what_is_no_span_of_a_file_is_refused_by_name(tmp_path, recordings, cut, kind, message):
    path = stored(tmp_path / "cuts.jsonl", unusual(kind, recordings, cut))
    with pytest.raises(ManifestError, match=rf"cuts\.jsonl: {message}"):
        from_lhotse(path, write_rttm=tmp_path / "ref")
    assert not (tmp_path / "ref").exists()


def test_what_lhotse_cannot_read_is_told(tmp_path, cut):
    for name in ("gone.jsonl", "pipe:echo x"):
        with pytest.raises(ManifestError, match=rf"{name}: is no file, but lhotse's manifests"):
            from_lhotse(name)
    path = stored(tmp_path / "cuts.jsonl.gz", cut)
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ManifestError, match=r"cuts\.jsonl\.gz: lhotse cannot read it \(.+\)\. Is"):
        from_lhotse(path)
    (tmp_path / "ours.jsonl").write_text('{"audio_filepath": "a.wav"}\n')
    with pytest.raises(ManifestError, match=r"ours\.jsonl: lhotse cannot read it .*Is it a manif"):
        from_lhotse(tmp_path / "ours.jsonl")


def test_what_rttm_cannot_hold_is_refused(tmp_path, cut):
    cut.supervisions[1].speaker = None
    path = stored(tmp_path / "cuts.jsonl", cut)
    with pytest.raises(ManifestError, match=r"cut 'talk': supervision 'u1' has no speaker, but a"):
        from_lhotse(path, write_rttm=tmp_path / "ref")
    cut.supervisions[1].speaker = "Bob Lee"
    path = stored(tmp_path / "spaced.jsonl", cut)
    with pytest.raises(RttmError, match=r"cut 'talk': speaker 'Bob Lee' has white.* 'Bob_Lee'"):
        from_lhotse(path, write_rttm=tmp_path / "ref")
    cut.supervisions.pop(1)
    path = stored(tmp_path / "twice.jsonl", cut)
    path.write_text(path.read_text() * 2)
    with pytest.raises(
        ManifestError, match=r"cut 'talk': session 'talk' is there already, but ids"
    ):
        from_lhotse(path, write_rttm=tmp_path / "ref")


# Writing


def test_a_session_becomes_a_cut_with_times_of_its_own(tmp_path, recordings):
    write_rttm(tmp_path / "ref.rttm", {"talk": TURNS, "other": [Turn(0.0, 8.0, "cleo")]})
    session = Session("talk", recordings / "x.wav", 2.0, 4.0, tmp_path / "ref.rttm")
    to_lhotse([session], tmp_path / "cuts.jsonl.gz")
    (cut,) = lhotse.CutSet.from_file(tmp_path / "cuts.jsonl.gz")
    lhotse.qa.validate(cut)
    assert (cut.id, cut.start, cut.duration, cut.channel) == ("talk", 2.0, 4.0, 0)
    assert (cut.recording.id, cut.recording.num_samples) == ("x", 128000)
    told = [(s.recording_id, s.start, s.duration, s.speaker) for s in cut.supervisions]
    assert told == [("x", 0.5, 2.0, "ann"), ("x", 2.0, 1.5, "bob")]
    heard = read_audio(recordings / "x.wav", 2.0, 4.0)
    np.testing.assert_array_equal(cut.load_audio()[0], heard)
    assert gzip.decompress((tmp_path / "cuts.jsonl.gz").read_bytes()).count(b"\n") == 1


def test_activity_that_lhotse_draws_is_that_of_the_session(tmp_path, recordings):
    write_rttm(tmp_path / "ref.rttm", {"talk": TURNS})
    session = Session("talk", recordings / "x.wav", 2.0, 4.0, tmp_path / "ref.rttm")
    to_lhotse([session], tmp_path / "cuts.jsonl")
    (cut,) = lhotse.CutSet.from_file(tmp_path / "cuts.jsonl")
    drawn = cut.speakers_audio_mask(speaker_to_idx_map={"ann": 0, "bob": 1})  # (speaker, sample)
    assert drawn.shape == (2, 64000)
    #  seconds of the cut   0  0.5   2  2.5  3.5  4
    #  ann                      |-------|
    #  bob                           |-------|
    ends = {0: (8000, 40000), 1: (32000, 56000)}
    for row, (first, last) in ends.items():
        wanted = np.zeros(64000)
        wanted[first:last] = 1
        np.testing.assert_array_equal(drawn[row], wanted)


@pytest.mark.parametrize("utterances", [False, True])
def test_a_channel_is_that_of_the_cut(tmp_path, recordings, utterances):
    write_rttm(tmp_path / "ref.rttm", {f"talk{c}": TURNS for c in (0, 1)})
    stereo, rttm = recordings / "stereo.wav", None if utterances else tmp_path / "ref.rttm"
    speaker = "ann" if utterances else None
    lines = [
        Session(f"talk{c}", stereo, 2.0, 4.0, rttm, speaker=speaker, channel=c) for c in (0, 1)
    ]
    to_lhotse(lines, tmp_path / "cuts.jsonl")
    for channel, cut in enumerate(lhotse.CutSet.from_file(tmp_path / "cuts.jsonl")):
        lhotse.qa.validate(cut)
        heard = read_audio(stereo, 2.0, 4.0, channel)
        np.testing.assert_array_equal(cut.load_audio(), heard[None])
    back = from_lhotse(tmp_path / "cuts.jsonl", None, utterances, tmp_path / "back")
    told = [(s.session_id, s.audio, s.offset, s.duration, s.channel) for s in back]
    assert told == [(f"talk{c}", stereo, 2.0, 4.0, c) for c in (0, 1)]
    whole = lhotse.RecordingSet.from_recordings([lhotse.Recording.from_file(stereo)])
    whole.to_file(tmp_path / "recordings.jsonl")
    with pytest.raises(ManifestError, match=r"'stereo' has 2 channels, of which lhotse hears all"):
        from_lhotse(tmp_path / "recordings.jsonl")


def rounded(turns):
    """To the millisecond, as RTTM has them."""
    return in_order(Turn(round(t.start, 3), round(t.end, 3), t.speaker) for t in turns)


NAMES = st.text("abÜ-_0", min_size=1, max_size=5)
SESSIONS = st.tuples(
    st.sampled_from(("x.wav", "y.flac")),
    st.integers(0, 3999),
    st.none() | st.integers(1, 4000),
    st.lists(
        st.builds(
            lambda start, length, speaker: Turn(
                start / 1000, min(start + length, 8000) / 1000, speaker
            ),
            st.integers(0, 7999),
            st.integers(1, 8000),
            st.sampled_from(("ann", "bob-2", "Ü")),
        ),
        max_size=5,
        unique=True,
    ),
)


@settings(deadline=None, max_examples=25)
@given(st.dictionaries(NAMES, SESSIONS, min_size=1, max_size=3))
def test_sessions_survive_there_and_back(tmp_path_factory, recordings, sessions):
    folder = tmp_path_factory.mktemp("lhotse")
    lines, wanted = [], {}
    for number, (name, (audio, start, length, turns)) in enumerate(sessions.items()):
        rttm = folder / f"{number}.rttm"
        write_rttm(rttm, {name: turns})
        duration = None if length is None else length / 1000
        lines.append(Session(name, recordings / audio, start / 1000, duration, rttm))
        end = 8.0 if duration is None else round(start / 1000 + duration, 3)
        wanted[name] = (
            recordings / audio,
            start / 1000,
            end,
            in_order(clip(turns, start / 1000, end)),
        )
    to_lhotse(lines, folder / "cuts.jsonl")
    silent = not any(row[3] for row in wanted.values())
    back = from_lhotse(folder / "cuts.jsonl", write_rttm=None if silent else folder / "ref")
    told = {s.session_id: (s.audio, s.offset, round(s.end, 9)) for s in back}
    assert told == {name: row[:3] for name, row in wanted.items()}
    if silent:  # which lhotse cannot tell from not knowing
        assert [session.rttm for session in back] == [None] * len(lines)
        return
    for session in back:
        assert rounded(reference_turns(session)) == rounded(wanted[session.session_id][3])


@settings(deadline=None, max_examples=15)
@given(
    st.lists(
        st.tuples(st.integers(0, 3999), st.integers(1, 4000), st.sampled_from(("ann", "Ü"))),
        min_size=1,
        max_size=5,
        unique_by=lambda row: (row[0], row[2]),
    )
)
def test_utterances_survive_there_and_back(tmp_path_factory, recordings, rows):
    path = tmp_path_factory.mktemp("lhotse") / "cuts.jsonl"
    lines = [
        Session("x", recordings / "x.wav", start / 1000, length / 1000, speaker=speaker)
        for start, length, speaker in rows
    ]
    to_lhotse(lines, path)
    assert all(len(cut.supervisions) == 1 for cut in lhotse.CutSet.from_file(path))
    back = from_lhotse(path, utterances=True)
    assert [(s.offset, s.duration, s.speaker) for s in back] == [
        (line.offset, line.duration, line.speaker) for line in lines
    ]
    assert len({s.session_id for s in back}) == len(back)


def test_what_a_cut_cannot_hold_is_refused(tmp_path, recordings):
    def refused(message, *lines, name="cuts.jsonl", error=ManifestError):
        with pytest.raises(error, match=message):
            to_lhotse(lines, tmp_path / name)
        assert list(tmp_path.iterdir()) == []

    x = recordings / "x.wav"
    refused(
        r"cuts\.rttm: cuts are written as JSON L.*, but lhotse", Session("s", x), name="cuts.rttm"
    )
    refused(r"m:1: .*stereo\.wav has 2 channels, of which .* but a cut takes 1\.",
            Session("s", recordings / "stereo.wav", where="m:1"))  # fmt: skip
    refused(r"m:1: .*stereo\.wav: channel 2 is asked for, but there are 2, counted from 0",
            Session("s", recordings / "stereo.wav", where="m:1", channel=2),
            error=AudioError)  # fmt: skip
    refused(r"'s' goes from 9\.00 s to 8\.00 s, but its audio lasts 8\.00 s", Session("s", x, 9.0))
    refused(r"gone\.wav: cannot be read", Session("s", Path("gone.wav")), error=AudioError)
