import json

import numpy as np
import pytest
import soundfile

from diarize.manifest import check, check_manifest

LINE = "SPEAKER {} 1 {} {} <NA> <NA> {} <NA> <NA>\n"


@pytest.fixture
def corpus(tmp_path):
    """A folder with a good session, and functions to add to it."""
    return Corpus(tmp_path)


class Corpus:
    def __init__(self, folder):
        self.folder = folder
        self.lines = []

    def audio(self, name, duration=10.0, sample_rate=16000, channels=1):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros((round(duration * sample_rate), channels)), sample_rate)

    def text(self, name, text):
        (self.folder / name).write_text(text)

    def line(self, name="a.wav", **keys):
        self.lines.append(json.dumps({"audio_filepath": name} | keys))

    def check(self):
        """Faults and notes, with places relative to the folder."""
        path = self.folder / "m.jsonl"
        path.write_text("".join(line + "\n" for line in self.lines))
        notes = []
        faults = check_manifest(path, notes)
        return [[x.replace(f"{self.folder}/", "") for x in found] for found in (faults, notes)]

    def fault(self):
        (fault,), _ = self.check()
        return fault


def test_a_good_manifest_has_neither_faults_nor_notes(corpus):
    corpus.audio("a.wav")
    corpus.text("a.rttm", LINE.format("a", 0.5, 9.5, "x") + LINE.format("a", 3, 1, "y"))
    corpus.text("a.uem", "a 1 0.000 10.000\n")
    corpus.line(rttm_filepath="a.rttm", uem_filepath="a.uem", num_speakers=2, duration=10.005)
    assert corpus.check() == [[], []]


def test_every_fault_is_listed_with_its_place(corpus):
    corpus.audio("a.wav")
    corpus.audio("sub/a.wav")
    corpus.text("noise.wav", "no audio")
    corpus.text(
        "a.rttm",
        LINE.format("a", 1, 3, "x")
        + LINE.format("a", 9, 2, "y")
        + LINE.format("a", 2, 4, "x")
        + LINE.format("a", 5, 0, "z")
        + LINE.format("a", 5, -1, "z")
        + "SPEAKER a 1 5\n",
    )
    corpus.text("a.uem", "a 1 0 11\na 1 5 4\n")
    corpus.line(rttm_filepath="a.rttm", uem_filepath="a.uem")
    corpus.line("sub/a.wav")
    corpus.line("gone.wav", session_id="b c")
    corpus.line("noise.wav", offset=-1, duration="3")
    corpus.line("noise.wav")
    corpus.line("a.wav", session_id="other", rttm_filepath="a.rttm", offset=8, duration=3)
    corpus.line("a.wav", session_id="late", rttm_filepath="gone.rttm", offset=10)
    corpus.lines.append("{")
    faults, _ = corpus.check()
    expected = [
        "a.rttm:5: duration is -1, but time runs forward.",
        "a.rttm:6: 'SPEAKER' line has 4 fields, but RTTM has 9 or 10.",
        "a.rttm:4: turn of 'z' lasts 0 s, but speech takes time.",
        "a.rttm:3: 'x' speaks from 2.00 s, but already does so until 4.00 s (line 1).",
        "a.rttm:2: lasts until 11.00 s, but its audio lasts 10.00 s.",
        "a.uem:2: region lasts from 5 s to 4 s, but UEM holds 0 <= start < end.",
        "a.uem:1: lasts until 11.00 s, but its audio lasts 10.00 s.",
        "m.jsonl:2: session 'a' is already at m.jsonl:1, but ids must differ.",
        "m.jsonl:2: sub/a.wav has the base name of a.wav at m.jsonl:1, but",
        "m.jsonl:3: session id 'b c' has white space, but",
        "m.jsonl:3: gone.wav: cannot be read (No such file or directory).",
        "m.jsonl:4: 'offset' is -1 s, but it may not be negative.",
        "m.jsonl:4: 'duration' is \"3\", but it must be a number of seconds.",
        "m.jsonl:5: noise.wav: libsndfile cannot read it",
        "m.jsonl:6: session 'other' ends at 11.00 s, but its audio lasts 10.00 s.",
        "m.jsonl:6: session 'other' is not in a.rttm, which has 'a'.",
        "m.jsonl:7: session 'late' starts at 10.00 s, but its audio lasts 10.00 s.",
        "m.jsonl:7: gone.rttm: cannot be read (No such file or directory).",
        "m.jsonl:8: is not JSON",
    ]
    assert len(faults) == len(expected), faults
    for fault, beginning in zip(faults, expected, strict=True):
        assert fault.startswith(beginning), fault
        assert fault.rpartition(". ")[2].rstrip(".?"), "a fault ends with the way out"


def test_a_fault_of_a_shared_file_is_told_once_and_a_missing_one_at_each_line(corpus):
    for name in "ab":
        corpus.audio(f"{name}.wav")
        corpus.line(f"{name}.wav", rttm_filepath="all.rttm", uem_filepath="gone.uem")
    corpus.text("all.rttm", LINE.format("a", 0, 0, "x") + LINE.format("b", 0, 1, "x"))
    faults, _ = corpus.check()
    assert [fault.split(" ")[0] for fault in faults] == ["all.rttm:1:", "m.jsonl:1:", "m.jsonl:2:"]


def test_rounding_to_hundredths_is_no_fault(corpus):
    corpus.audio("a.wav", 9.996)
    corpus.text("a.rttm", LINE.format("a", 0, 5, "x") + LINE.format("a", 4.995, 5.01, "x"))
    corpus.line(duration=10.0, rttm_filepath="a.rttm")
    assert corpus.check()[0] == []


def test_a_turn_overlaps_the_longest_turn_before_it_and_not_only_the_last(corpus):
    corpus.audio("a.wav")
    turns = LINE.format("a", 0, 8, "x") + LINE.format("a", 1, 1, "x") + LINE.format("a", 5, 1, "x")
    corpus.text("a.rttm", turns)
    corpus.line(rttm_filepath="a.rttm")
    faults, _ = corpus.check()
    assert [fault.split(",")[0] for fault in faults] == [
        "a.rttm:2: 'x' speaks from 1.00 s",
        "a.rttm:3: 'x' speaks from 5.00 s",
    ]
    assert all("until 8.00 s (line 1)" in fault for fault in faults)


def test_turns_are_held_against_the_recording_and_not_against_the_span(corpus):
    corpus.audio("a.wav")
    corpus.text("a.rttm", LINE.format("a", 0, 10, "x"))
    corpus.line(offset=2, duration=3, rttm_filepath="a.rttm", num_speakers=1)
    assert corpus.check() == [[], []]


def test_an_empty_recording_and_an_empty_manifest_are_faults(corpus):
    assert corpus.fault().startswith("m.jsonl:1: has no lines, but a manifest names sessions.")
    corpus.audio("a.wav", duration=0)
    corpus.line()
    assert "'a' has a recording without samples, but there must be some" in corpus.fault()
    assert "gone.jsonl: cannot be read" in check_manifest(corpus.folder / "gone.jsonl")[0]


def test_utterances_and_noises_may_share_a_recording_and_a_name(corpus):
    for name in ("x/1.wav", "y/1.wav", "noise.wav"):
        corpus.audio(name)
    for name in ("x/1.wav", "y/1.wav"):
        corpus.line(name, offset=0, duration=2, speaker=name)
        corpus.line(name, offset=3, duration=2, speaker=name)
    corpus.line("noise.wav", offset=0, duration=5)
    corpus.line("noise.wav", offset=5, duration=5)
    assert corpus.check() == [[], []]
    corpus.line("noise.wav", offset=5, duration=5)
    assert "session 'noise' is already at m.jsonl:6" in corpus.fault()


def test_what_is_worth_knowing_is_a_note_and_no_fault(corpus):
    corpus.audio("a.wav", sample_rate=8000)
    corpus.audio("b.wav", sample_rate=8000, channels=2)
    corpus.audio("c.wav")
    corpus.text("c.rttm", LINE.format("c", 1, 1, "x"))
    corpus.text("empty.rttm", "")
    corpus.line("a.wav", rttm_filepath="empty.rttm")
    corpus.line("b.wav")
    corpus.line("c.wav", rttm_filepath="c.rttm", num_speakers=2)
    corpus.line("c.wav", session_id="c2", offset=5)
    corpus.lines[-1] = corpus.lines[-2].replace('"num_speakers": 2', '"offset": 5, "duration": 2')
    faults, notes = corpus.check()
    assert [fault.split(",")[0] for fault in faults] == [
        "m.jsonl:4: session 'c' is already at m.jsonl:3"
    ]
    assert notes == [
        "m.jsonl:1: note: empty.rttm has no turn, which means that nobody speaks.",
        "m.jsonl:3: note: 'num_speakers' is 2, but c.rttm names 1.",
        "m.jsonl:4: note: c.rttm has no turn between 5.00 s and 7.00 s, the session's span. "
        "RTTM counts from the start of the recording.",
        "m.jsonl:1: note: a.wav has 8000 Hz, as 1 more files have; reading changes that to "
        "16000 Hz.",
        "m.jsonl:2: note: b.wav has 2 channels; reading takes their mean, or one if asked.",
    ]


def test_a_channel_that_is_named_is_there_and_no_note(corpus):
    corpus.audio("a.wav", channels=2)
    corpus.audio("b.wav", channels=2, sample_rate=8000)
    for name in ("a", "b"):
        for channel in (0, 1):
            corpus.line(f"{name}.wav", session_id=f"{name}{channel}", channel=channel)
    note = "m.jsonl:3: note: b.wav has 8000 Hz; reading changes that to 16000 Hz."
    assert corpus.check() == [[], [note]]
    corpus.line("a.wav", session_id="a2", channel=2)
    assert corpus.fault() == (
        "m.jsonl:5: a.wav: channel 2 is asked for, but there are 2, counted from 0. Choose 0 to 1, "
        "or none for their mean."
    )


def test_a_reference_of_faulty_lines_alone_does_not_mean_silence(corpus):
    corpus.audio("a.wav")
    corpus.text("a.rttm", "SPEAKER a 1 5\n")
    corpus.line(rttm_filepath="a.rttm")
    faults, notes = corpus.check()
    assert [fault.split(" ")[0] for fault in faults] == ["a.rttm:1:"]
    assert notes == []


def test_each_file_is_read_once(corpus, monkeypatch):
    corpus.audio("a.wav")
    corpus.text("all.rttm", "".join(LINE.format(f"s{number}", 1, 1, "x") for number in range(50)))
    for number in range(50):
        corpus.line(session_id=f"s{number}", rttm_filepath="all.rttm")
    calls = []
    for name in ("open_recording", "scan_rttm"):
        real = getattr(check, name)
        monkeypatch.setattr(
            check, name, lambda path, *more, r=real: calls.append(path.name) or r(path, *more)
        )
    assert corpus.check() == [[], []]
    assert sorted(calls) == ["a.wav", "all.rttm"]


def test_the_real_corpora_have_no_faults(shared):
    manifests = [shared / "real/dev.jsonl", shared / "real/test.jsonl", shared / "speech/dev.jsonl"]
    for path in manifests:
        assert check_manifest(path) == []


# ---- features


class Features(Corpus):
    def array(self, name, shape=(100, 4), value=0.0):
        array = np.full(shape, value, dtype=np.float32)
        np.save(self.folder / name, array)
        return array

    def line(self, name="a.npy", **keys):
        self.lines.append(json.dumps({"feature_filepath": name, "frame_shift": 0.1} | keys))


@pytest.fixture
def features(tmp_path):
    return Features(tmp_path)


def test_good_features_have_neither_faults_nor_notes(features):
    features.array("a.npy")
    features.text("a.rttm", LINE.format("a", 0.5, 9.5, "x") + LINE.format("a", 3, 1, "y"))
    features.text("a.uem", "a 1 0.000 10.000\n")
    features.line(rttm_filepath="a.rttm", uem_filepath="a.uem", num_speakers=2, duration=10.005)
    features.line(session_id="late", offset=5)
    assert features.check() == [[], []]


def test_every_fault_of_features_is_listed(features):
    features.array("a.npy")
    features.array("flat.npy", (100,))
    features.array("wide.npy", (100, 5))
    features.array("empty.npy", (0, 4))
    features.array("bad.npy", value=np.nan)
    np.save(features.folder / "whole.npy", np.zeros((9, 4), int))
    Corpus.audio(features, "sound.wav")
    features.text("late.rttm", LINE.format("late", 9, 3, "x"))
    features.text("late.uem", "late 1 0 11\n")
    features.line()
    features.line(session_id="late", rttm_filepath="late.rttm", uem_filepath="late.uem")
    features.line(session_id="long", duration=10.5)
    features.line(session_id="after", offset=10)
    for name in ("flat.npy", "wide.npy", "empty.npy", "bad.npy", "whole.npy", "gone.npy"):
        features.line(name)
    features.line("a.npy", session_id="slow", frame_shift=0.2)
    features.lines.append(json.dumps({"audio_filepath": "sound.wav"}))
    features.line("sound.wav", session_id="s")
    faults, notes = features.check()
    expected = [
        "late.rttm:1: lasts until 12.00 s, but its 100 rows of features last 10.00 s. Cut it there",
        "late.uem:1: lasts until 11.00 s, but its 100 rows of features last 10.00 s. Cut it there",
        "m.jsonl:3: session 'long' ends at 10.50 s, but its 100 rows of features last 10.00 s. Sho",
        "m.jsonl:4: session 'after' starts at 10.00 s, but its 100 rows of features last 10.00 s. ",
        "m.jsonl:5: flat.npy: has shape (100,), but features are (row, dim). Reshape the array",
        "m.jsonl:6: wide.npy is features of 5 numbers every 0.1 s, but a.npy at m.jsonl:1 is "
        "features of 4 numbers every 0.1 s, and a model hears one of them. Write two ",
        "m.jsonl:7: empty.npy: has 0 rows of 4 numbers, but there is at least 1 of each.",
        "m.jsonl:8: bad.npy: row 0 (0.00 s) holds nan, but features are finite numbers in float32.",
        "m.jsonl:9: whole.npy: holds int64, but features are float16, float32 or float64. Convert",
        "m.jsonl:10: gone.npy: cannot be read (No such file or directory). Check the path.",
        "m.jsonl:11: a.npy is features of 4 numbers every 0.2 s, but a.npy at m.jsonl:1 is",
        "m.jsonl:12: sound.wav is audio, but a.npy at m.jsonl:1 is features of 4 numbers every 0.1",
        "m.jsonl:13: sound.wav: begins with b'RIFF', but an array is a .npy or .npz file.",
    ]
    assert [fault[: len(start)] for fault, start in zip(faults, expected, strict=True)] == expected
    assert notes == []
