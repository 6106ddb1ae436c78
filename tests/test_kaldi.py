"""Data directories of Kaldi: as recipes lay them out, as lhotse reads them, there and back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from diarize.corpus import Corpus
from diarize.errors import ManifestError, RttmError
from diarize.formats.rttm import write_rttm
from diarize.manifest import (
    Session,
    check_manifest,
    read_manifest,
    reference_turns,
    write_manifest,
)
from diarize.manifest.kaldi import from_kaldi, to_kaldi
from diarize.turns import Turn, in_order

# What recipes of EEND lay down: recordings, and who speaks when in them, twice.
EEND = {
    "wav.scp": "mix1 wav/mix1.wav\nmix2 wav/mix2.wav\n",
    "reco2dur": "mix1 8.0\nmix2 4.5\n",
    "segments": "a_mix1_0 mix1 0.5 2.25\nb_mix1_1 mix1 2.0 3.0\na_mix2_0 mix2 1.0 -1\n",
    "utt2spk": "a_mix1_0 a\nb_mix1_1 b\na_mix2_0 a\n",
    "spk2utt": "a a_mix1_0 a_mix2_0\nb b_mix1_1\n",
    "reco2num_spk": "mix1 2\nmix2 1\n",
    "rttm": "SPEAKER mix1 1 0.5 1.75 <NA> <NA> a <NA>\n"
    "SPEAKER mix1 1 2.0 1.0 <NA> <NA> b <NA>\nSPEAKER mix2 1 1.0 3.5 <NA> <NA> a <NA>\n",
}
MIX_1 = [Turn(0.5, 2.25, "a"), Turn(2.0, 3.0, "b")]
MIX_2 = [Turn(1.0, 4.5, "a")]


@pytest.fixture
def directory(tmp_path):
    """A function that lays down a directory; a file of None is left out."""

    def lay(**changes):
        folder = tmp_path / "data"
        folder.mkdir(exist_ok=True)
        for name, text in (
            EEND | {k.replace("wav_scp", "wav.scp"): v for k, v in changes.items()}
        ).items():
            (folder / name).unlink(missing_ok=True)
            if text is not None:
                (folder / name).write_text(text)
        return folder

    return lay


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Three recordings of 8 s, 8 kHz."""
    folder = tmp_path_factory.mktemp("recordings")
    for name in "xyz":
        soundfile.write(folder / f"{name}.wav", np.full(64000, 0.1), 8000)
    return folder


# Reading


def test_a_recording_is_a_session_with_the_rttm_of_the_directory(directory):
    folder = directory()
    first, second = from_kaldi(folder)
    assert first == Session(
        "mix1", Path("wav/mix1.wav"), 0.0, 8.0, rttm=folder / "rttm", num_speakers=2
    )
    assert (second.session_id, second.duration, second.num_speakers) == ("mix2", 4.5, 1)
    assert second.where == f"{folder}/wav.scp:2"
    assert [reference_turns(first), reference_turns(second)] == [MIX_1, MIX_2]


def test_segments_and_speakers_are_written_as_rttm_where_one_says(directory, tmp_path):
    folder = directory(rttm=None)
    before = sorted(tmp_path.rglob("*"))
    message = r"data: has segments and speakers but no rttm, but .* --write-rttm DIR where .* or "
    with pytest.raises(ManifestError, match=message):
        from_kaldi(folder)
    assert sorted(tmp_path.rglob("*")) == before
    first, second = from_kaldi(folder, write_rttm=tmp_path / "ref")
    assert [first.rttm, second.rttm] == [tmp_path / f"ref/mix{n}.rttm" for n in (1, 2)]
    assert [reference_turns(first), reference_turns(second)] == [MIX_1, MIX_2]
    assert [first.num_speakers, second.num_speakers] == [2, 1]


def test_who_is_silent_has_an_empty_rttm(directory, tmp_path):
    scp = EEND["wav.scp"] + "mix3 wav/mix3.wav\n"
    folder = directory(wav_scp=scp, reco2num_spk=None)
    message = r"wav\.scp:3: session 'mix3' is not in .*rttm, which has 'mix1', 'mix2'.*--write-rttm"
    with pytest.raises(ManifestError, match=message):
        from_kaldi(folder)
    *_, third = from_kaldi(folder, write_rttm=tmp_path / "ref")
    assert reference_turns(third) == [] and third.num_speakers == 0
    assert third.rttm.read_text() == ""


def test_another_reference_is_not_overwritten(directory, tmp_path):
    folder = directory(rttm=None)
    from_kaldi(folder, write_rttm=tmp_path)
    from_kaldi(folder, write_rttm=tmp_path)
    (tmp_path / "mix2.rttm").write_text("SPEAKER mix2 1 0 1 <NA> <NA> z <NA> <NA>\n")
    with pytest.raises(ManifestError, match=r"mix2\.rttm: holds another ref.*wav\.scp:2, but what"):
        from_kaldi(folder, write_rttm=tmp_path)


def test_without_segments_nothing_is_known_of_sessions(directory):
    folder = directory(rttm=None, segments=None, utt2spk=None, spk2utt=None)
    assert [(s.rttm, s.num_speakers) for s in from_kaldi(folder)] == [(None, 2), (None, 1)]
    with pytest.raises(ManifestError, match=r"data: references are to be written to ref, but noth"):
        from_kaldi(folder, write_rttm="ref")


def test_an_utterance_is_a_line_with_its_speaker(directory):
    lines = from_kaldi(directory(text="a_mix1_0 good day\n"), utterances=True)
    told = [(s.session_id, str(s.audio), s.offset, s.duration, s.speaker) for s in lines]
    assert told == [
        ("a_mix1_0", "wav/mix1.wav", 0.5, 1.75, "a"),
        ("b_mix1_1", "wav/mix1.wav", 2.0, 1.0, "b"),
        ("a_mix2_0", "wav/mix2.wav", 1.0, None, "a"),
    ]
    assert [dict(s.extra) for s in lines] == [{"text": "good day"}, {}, {}]


def test_without_segments_an_utterance_is_a_recording(directory):
    folder = directory(segments=None, utt2spk=None, spk2utt="ann mix1\nbob mix2\n")
    lines = from_kaldi(folder, utterances=True)
    told = [(s.session_id, s.offset, s.duration, s.speaker) for s in lines]
    assert told == [("mix1", 0.0, 8.0, "ann"), ("mix2", 0.0, 4.5, "bob")]


def test_a_segment_may_end_where_only_the_recording_knows(directory, recordings, tmp_path):
    scp = f"mix1 {recordings}/x.wav\nmix2 {recordings}/y.wav\n"
    sessions = from_kaldi(
        directory(rttm=None, reco2dur=None, wav_scp=scp), write_rttm=tmp_path / "ref"
    )
    assert reference_turns(sessions[1]) == [Turn(1.0, 8.0, "a")]


def test_utterances_are_food_for_simulation(directory, recordings, tmp_path):
    scp = f"mix1 {recordings}/x.wav\nmix2 {recordings}/y.wav\n"
    lines = from_kaldi(directory(wav_scp=scp), utterances=True)
    write_manifest(tmp_path / "utterances.jsonl", lines)
    corpus = Corpus.from_manifest(tmp_path / "utterances.jsonl", tmp_path / "cache")
    assert corpus.speakers == ("a", "b")
    assert corpus.length.tolist() == [28000, 16000, 112000]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("wav_scp", None, r"wav\.scp: cannot be read \(No such"),
        ("wav_scp", "mix1\n", r"wav\.scp:1: has 1 field, 'mix1', but a line of wav\.scp has at le"),
        ("wav_scp", "m a.wav\nm b.wav\n", r"wav\.scp:2: 'm' is already at .*wav\.scp:1, but names"),
        (
            "wav_scp", "\nmix1 sph2pipe -f wav a.sph |\n",
            r"wav\.scp:2: recording 'mix1' is a command, 'sph2pipe -f wav a\.sph \|', but commands "
            r"of a table are never run\. .* `sph2pipe -f wav a\.sph > mix1\.wav`, and name that",
        ),
        ("wav_scp", "mix1 a.ark:4711\n", r"wav\.scp:1: .* in an archive, 'a\.ark:4711', but reco"),
        ("segments", "u mix1 0 1 2\n", r"segments:1: segment has 5 fields, but it has 4: utteran"),
        ("segments", "u mix9 0 1\n", r"segments:1: recording 'mix9' is not in wav\.scp, but .* 2"),
        ("segments", "u mix1 2.5 1\n", r"segments:1: segment lasts from 2\.5 s to 1 s, but it en"),
        ("segments", "u mix1 zero 1\n", r"segments:1: a time is 'zero', but it must be a number"),
        ("segments", "u mix1 0 -2\n", r"segments:1: a time is '-2', but it must be"),
        ("segments", "u mix1 0 1\n", r"segments:1: utterance 'u' has no speaker, but .* 3 others"),
        ("utt2spk", "a_mix1_0 a b\n", r"utt2spk:1: 'a_mix1_0' has 2 speakers, but an .* has 1\."),
        (
            "spk2utt", "b a_mix1_0\n",
            r"utt2spk:1: 'a' speaks 'a_mix1_0', but at .*spk2utt:1 'b' does\. Make spk2utt anew",
        ),
        ("reco2dur", "mix1 0\n", r"reco2dur:1: 'mix1' lasts 0 s, but a recording lasts longer"),
        ("reco2dur", "mix2 nan\n", r"reco2dur:1: a time is 'nan', but it must be a number"),
        ("reco2num_spk", "mix1 two\n", r"reco2num_spk:1: 'two' speak, but it must be a whole numb"),
        (
            "reco2num_spk", "mix1 3\n",
            r"reco2num_spk:1: 3 speak in 'mix1', but segments and utt2spk name 2\. Where speakers",
        ),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place(directory, tmp_path, name, text, message):
    folder = directory(rttm=None, **{name: text})
    with pytest.raises(ManifestError, match=message):
        from_kaldi(folder, write_rttm=tmp_path / "ref")
    assert not (tmp_path / "ref").exists()


def test_a_faulty_rttm_is_told_with_its_place(directory):
    with pytest.raises(RttmError, match=r"data/rttm:1: .*has 3 fields, but RTTM has 9 or 10"):
        from_kaldi(directory(rttm="SPEAKER mix1 1\n"))


def test_an_id_that_cannot_name_a_file_is_refused(directory, tmp_path):
    folder = directory(wav_scp="dev/mix1 a.wav\n", rttm="")
    assert from_kaldi(folder)[0].session_id == "dev/mix1"
    with pytest.raises(ManifestError, match=r"wav\.scp:1: .* 'dev/mix1' holds '/'.* 'dev-mix1'\."):
        from_kaldi(folder, write_rttm=tmp_path / "ref")


# Writing


def test_sessions_become_recordings_with_turns_as_rttm_and_as_segments(recordings, tmp_path):
    write_rttm(tmp_path / "ref.rttm", {"talk": [Turn(0.5, 2.25, "b"), Turn(2.0, 3.1234, "a")]})
    session = Session("talk", recordings / "x.wav", rttm=tmp_path / "ref.rttm")
    written = to_kaldi([session], tmp_path / "data")
    first, second = "a-talk-00002000-00003123", "b-talk-00000500-00002250"
    assert {path.name: path.read_text() for path in written} == {
        "wav.scp": f"talk {recordings}/x.wav\n",
        "reco2dur": "talk 8.000000\n",
        "segments": f"{first} talk 2.000000 3.123000\n{second} talk 0.500000 2.250000\n",
        "utt2spk": f"{first} a\n{second} b\n",
        "spk2utt": f"a {first}\nb {second}\n",
        "text": f"{first}\n{second}\n",
        "reco2num_spk": "talk 2\n",
        "rttm": "SPEAKER talk 1 0.500 1.750 <NA> <NA> b <NA> <NA>\n"
        "SPEAKER talk 1 2.000 1.123 <NA> <NA> a <NA> <NA>\n",
    }
    with pytest.raises(ManifestError, match=r"data: holds wav\.scp, but a directory that is there"):
        to_kaldi([session], tmp_path / "data")


def test_a_recording_that_is_a_link_stays_one(recordings, tmp_path):
    (tmp_path / "link.wav").symlink_to(recordings / "x.wav")
    (tmp_path / "beside").mkdir()
    to_kaldi([Session("s", tmp_path / "beside" / ".." / "link.wav")], tmp_path / "data")
    assert from_kaldi(tmp_path / "data")[0].audio == tmp_path.resolve() / "link.wav"


def test_sessions_without_references_are_recordings_alone(recordings, tmp_path):
    written = to_kaldi(
        [Session("b", recordings / "x.wav"), Session("a", recordings / "x.wav")], tmp_path
    )
    assert [path.name for path in written] == ["wav.scp", "reco2dur"]
    assert [s.session_id for s in from_kaldi(tmp_path)] == ["a", "b"]


NAMES = st.text("abcÜ_0", min_size=1, max_size=4)
TURNS = st.lists(
    st.builds(
        lambda start, length, speaker: Turn(
            start / 1000, min(start + length, 8000) / 1000, speaker
        ),
        st.integers(0, 7999),
        st.integers(1, 8000),
        st.sampled_from(("ann", "bob-2", "Ü")),
    ),
    min_size=1,
    max_size=5,
    unique=True,
)


@settings(deadline=None, max_examples=25)
@given(st.dictionaries(NAMES, TURNS, min_size=1, max_size=3))
def test_sessions_survive_there_and_back(tmp_path_factory, recordings, sessions):
    folder = tmp_path_factory.mktemp("kaldi")
    write_rttm(folder / "ref.rttm", sessions)
    places = zip(sessions, "xyz", strict=False)
    lines = [Session(n, recordings / f"{r}.wav", 0.0, 8.0, folder / "ref.rttm") for n, r in places]
    to_kaldi(lines, folder / "data")
    named = from_kaldi(folder / "data")
    (folder / "data" / "rttm").unlink()
    for back in (named, from_kaldi(folder / "data", write_rttm=folder / "ref")):
        by_name = {s.session_id: s for s in back}
        assert {n: s.audio for n, s in by_name.items()} == {s.session_id: s.audio for s in lines}
        assert {s.duration for s in back} == {8.0}
        assert {s.num_speakers for s in back} <= {1, 2, 3}
    for name, session in by_name.items():
        assert in_order(reference_turns(session)) == in_order(sessions[name])
        assert session.num_speakers == len({turn.speaker for turn in sessions[name]})


UTTERANCES = st.builds(
    lambda name, first, length, speaker, recording: Session(
        name, Path(f"{recording}.wav"), first / 1000, length / 1000, speaker=speaker
    ),
    st.sampled_from(("one", "two", "three")),
    st.integers(0, 3999),
    st.integers(1, 4000),
    st.sampled_from(("ann", "bob", "Ü")),
    st.sampled_from("xyz"),
)


@settings(deadline=None, max_examples=25)
@given(st.lists(UTTERANCES, min_size=1, max_size=5, unique_by=lambda s: (s.speaker, s.offset)))
def test_utterances_survive_there_and_back(tmp_path_factory, recordings, lines):
    folder = tmp_path_factory.mktemp("kaldi")
    lines = [replace(line, audio=recordings / line.audio) for line in lines]
    to_kaldi(lines, folder)
    back = from_kaldi(folder, utterances=True)

    def told(sessions):
        return sorted((s.audio, s.offset, s.duration, s.speaker) for s in sessions)

    assert told(back) == told(lines)
    names = [line.session_id for line in lines]
    kept = {name for name in names if names.count(name) == 1}
    assert kept <= {s.session_id for s in back} and len({s.session_id for s in back}) == len(back)


def test_words_of_utterances_are_kept(recordings, tmp_path):
    line = Session("u", recordings / "x.wav", 1.0, 2.0, speaker="ann", extra={"text": "a  b"})
    to_kaldi([line], tmp_path)
    assert from_kaldi(tmp_path, utterances=True)[0].extra == {"text": "a b"}


def test_what_is_written_passes_the_check(recordings, tmp_path):
    write_rttm(tmp_path / "ref.rttm", {"talk": [Turn(0.5, 2.25, "b")]})
    session = Session("talk", recordings / "x.wav", rttm=tmp_path / "ref.rttm")
    to_kaldi([session], tmp_path / "data")
    write_manifest(tmp_path / "back.jsonl", from_kaldi(tmp_path / "data"))
    assert check_manifest(tmp_path / "back.jsonl") == []
    assert read_manifest(tmp_path / "back.jsonl")[0].audio.samefile(recordings / "x.wav")


def test_what_kaldi_cannot_hold_is_refused(recordings, tmp_path):
    rttm, x = tmp_path / "ref.rttm", recordings / "x.wav"
    turn = Turn(0, 1, "a")
    write_rttm(rttm, {"s": [turn], "b-c": [turn], "c": [Turn(0, 1, "a-b")]})

    def refused(message, *lines):
        with pytest.raises(ManifestError, match=message):
            to_kaldi(lines, tmp_path / "none")
        assert not (tmp_path / "none").exists()

    refused("has 0 lines, but at least 1")
    refused(
        r"m:1: session 's' goes from 2\.00 s to 8\.00 s, but a recording of Kaldi is a whole file, "
        r"which lasts 8\.00 s\. .*to-lhotse",
        Session("s", x, 2.0, where="m:1"),
    )
    soundfile.write(tmp_path / "two.wav", np.zeros((16000, 2)), 16000)
    refused(
        r"m:1: hears channel 1 of .*two\.wav, but a recording of Kaldi is a whole file\. Write",
        Session("s", tmp_path / "two.wav", channel=1, where="m:1"),
    )
    refused(r"goes from 0\.00 s to 7\.50 s, but", Session("s", x, 0.0, 7.5))
    refused(
        r"'s' goes from 1\.00 s to 8\.50 s, but its audio lasts 8\.00 s", Session("s", x, 1.0, 7.5)
    )
    refused(
        r"m:2: has 'speaker', but m:1 has none, and a line is a session or an utterance",
        Session("s", x, where="m:1"), Session("u", x, speaker="a", where="m:2"),
    )  # fmt: skip
    refused(
        r"session 't' has no 'rttm_filepath', but 1 of 2 have",
        Session("s", x, rttm=rttm),
        Session("t", x),
    )
    refused(
        r"m:2: would be 's', as m:1 is, but ids", *(Session("s", x, where=f"m:{n}") for n in (1, 2))
    )
    refused(
        r"would be 'a-b-c-00000000-00001000', as one of .* is, but utterances differ\. Rename a sp",
        Session("b-c", x, rttm=rttm), Session("c", x, rttm=rttm),
    )  # fmt: skip
    refused(r"'my talk' has white space", Session("my talk", x))
    refused(r"speaker 'a b' has white space", Session("u", x, speaker="a b"))
    refused(
        r"has 'feature_filepath', but only recordings", Session("f", Path("f.npy"), frame_shift=0.1)
    )
    other = tmp_path / "other"
    other.mkdir()
    soundfile.write(other / "x.wav", np.zeros(8000), 8000)
    refused(
        r"m:2: .*other/x\.wav has the base name of .*x\.wav at m:1, but recordings are told apart",
        Session("u", x, speaker="a", where="m:1"),
        Session("v", other / "x.wav", speaker="a", where="m:2"),
    )  # fmt: skip
    piped = tmp_path / "odd |"
    soundfile.write(piped, np.zeros(8000), 8000, format="WAV")
    refused(
        r"s: lies at '.*odd \|', but Kaldi takes a path that ends in '\|' for a command",
        Session("s", piped),
    )


# Lhotse's reader and writer of such directories


def test_lhotse_reads_what_is_written(recordings, tmp_path):
    kaldi = pytest.importorskip("lhotse.kaldi")
    turns = {"s": [Turn(0.5, 2.25, "a"), Turn(2.0, 3.123, "b")], "t": [Turn(0.0, 8.0, "a")]}
    write_rttm(tmp_path / "ref.rttm", turns)
    sessions = [Session(n, recordings / "x.wav", rttm=tmp_path / "ref.rttm") for n in turns]
    to_kaldi(sessions, tmp_path / "data")
    found, supervisions, _ = kaldi.load_kaldi_data_dir(tmp_path / "data", 8000)
    assert [(r.id, r.duration, r.num_samples) for r in found] == [
        ("s", 8.0, 64000),
        ("t", 8.0, 64000),
    ]
    assert found["t"].load_audio().shape == (1, 64000)
    for name, spoken in turns.items():
        told = [Turn(s.start, s.end, s.speaker) for s in supervisions if s.recording_id == name]
        assert in_order(told) == spoken


def test_lhotse_reads_utterances_that_are_written(recordings, tmp_path):
    kaldi = pytest.importorskip("lhotse.kaldi")
    line = Session("u", recordings / "x.wav", 1.25, 2.5, speaker="ann", extra={"text": "good day"})
    rest = replace(line, session_id="v", offset=4.0, duration=None, extra={})
    to_kaldi([line, rest], tmp_path)
    _, supervisions, _ = kaldi.load_kaldi_data_dir(tmp_path, 8000)
    told = [(s.id, s.recording_id, s.start, s.duration, s.speaker, s.text) for s in supervisions]
    assert told == [("u", "x", 1.25, 2.5, "ann", "good day"), ("v", "x", 4.0, 4.0, "ann", "")]


def test_what_lhotse_writes_is_read(recordings, tmp_path):
    lhotse = pytest.importorskip("lhotse")
    kaldi = pytest.importorskip("lhotse.kaldi")
    found = lhotse.RecordingSet.from_recordings(
        [lhotse.Recording.from_file(recordings / f"{name}.wav") for name in "xy"]
    )
    spoken = lhotse.SupervisionSet.from_segments(
        lhotse.SupervisionSegment(f"u{n}", "x", start, 1.5, speaker=speaker)
        for n, (start, speaker) in enumerate([(0.25, "ann"), (1.0, "bob"), (3.0, "ann")])
    )
    kaldi.export_to_kaldi(found, spoken, tmp_path / "data")
    first, second = from_kaldi(tmp_path / "data", write_rttm=tmp_path / "ref")
    wanted = [Turn(0.25, 1.75, "ann"), Turn(1.0, 2.5, "bob"), Turn(3.0, 4.5, "ann")]
    assert reference_turns(first) == wanted and reference_turns(second) == []
    assert (first.audio, first.duration) == (recordings / "x.wav", 8.0)
    lines = from_kaldi(tmp_path / "data", utterances=True)
    assert [(s.session_id, s.offset, s.duration) for s in lines][1] == ("u1", 1.0, 1.5)
