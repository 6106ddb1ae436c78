"""recipes/chime6, notsofar1 and libricss on miniatures: every session, speaker and time arrives."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from miniatures import RECIPES, prepared, regions, run, run_recipe, truth, write, write_noise

from diarize.audio import read_audio
from diarize.benchmark import read_list

LISTS = RECIPES.parent / "manifests"


# --- CHiME-6


PEOPLE = ("P01", "P02", "P03", "P04")


def said(speaker: str, start: str, end: str, words: str = "so") -> dict[str, str]:
    return {
        "end_time": end,
        "start_time": start,
        "words": words,
        "speaker": speaker,
        "ref": "U02",
        "location": "kitchen",
        "session_id": "S01",
    }


UTTERANCES = [
    said("P01", "0:01:00.50", "0:01:02.00"),
    said("P02", "0:01:01.25", "0:01:01.75"),
    said("P03", "0:01:02.00", "0:01:01.50"),  # a few end before they start
    said("P04", "0:01:02.00", "0:01:02.50", "[redacted]"),
    said("P04", "0:01:03.00", "0:01:04.00"),
]


@pytest.fixture(scope="module")
def chime6(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chime6")
    for split in ("eval", "dev"):
        for name in read_list(LISTS / "chime6" / f"{split}.txt"):
            audio = folder / "CHiME6" / "audio" / split
            write_noise(audio / f"{name}_U06.CH1.wav", 66.0, rate=8000)
            for person in PEOPLE:
                write_noise(audio / f"{name}_{person}.wav", 65.0, rate=8000, channels=2)
            text = json.dumps(UTTERANCES, indent=2)
            write(folder / "CHiME6" / "transcriptions" / split / f"{name}.json", text)
    return folder


def test_parties_begin_behind_the_introductions(
    chime6: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    sessions = prepared("chime6", chime6, tmp_path / "data")
    assert [session.session_id for session in sessions] == ["S01", "S21"]
    assert [regions(session) for session in sessions] == [[(0.0, 66.0)], [(59.0, 66.0)]]
    for session in sessions:
        assert truth(session) == [(60.5, 62.0, "P01"), (61.25, 61.75, "P02"), (63.0, 64.0, "P04")]
    note = "note: 4 utterances are redacted, or end before they start; they are left out"
    assert note in capsys.readouterr().err


def test_worn_microphones_are_mixed(chime6: Path, tmp_path: Path) -> None:
    first, _ = prepared("chime6", chime6, tmp_path / "data", "--microphone", "mhm")
    assert first.audio == tmp_path / "data" / "audio" / "eval" / "S01.flac"
    worn = chime6 / "CHiME6" / "audio" / "eval"
    mean = sum(read_audio(worn / f"S01_{person}.wav") for person in PEOPLE) / 4
    np.testing.assert_allclose(read_audio(first.audio), mean, atol=1e-4)


def test_forced_alignment_is_that_of_the_challenge(chime6: Path, tmp_path: Path) -> None:
    lines = "".join(
        f"SPEAKER {name}_U0{array}.ENH 1 61.0 0.5 <NA> <NA> P01 <NA> <NA>\n"
        for name in ("S01", "S21")
        for array in (1, 6)
    )
    write(tmp_path / "chime6_rttm" / "eval_rttm", lines)
    write(tmp_path / "chime6_rttm" / "README.md", "# chime6_rttm")
    options = ("--reference", "forced_alignment", "--rttm", str(tmp_path / "chime6_rttm"))
    for session in prepared("chime6", chime6, tmp_path / "data", *options):
        assert truth(session) == [(61.0, 61.5, "P01")]


def test_what_chime6_lacks_is_named(
    chime6: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run("chime6", chime6, tmp_path / "data", "--split", "train") == 1
    assert "lacks 16 of 16 files (transcriptions/*/S03.json, " in capsys.readouterr().err
    assert run("chime6", chime6, tmp_path / "data", "--microphone", "U01") == 1
    assert "(S01_U01.CH1.wav, S21_U01.CH1.wav), but eval of CHiME-6" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_chime5_is_told_apart(chime6: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    text = json.dumps([{**UTTERANCES[0], "start_time": {"original": "0:01:00.50"}}])
    for name in ("S01", "S21"):
        write(tmp_path / "chime5" / "transcriptions" / "eval" / f"{name}.json", text)
    assert run("chime6", tmp_path / "chime5", tmp_path / "data") == 1
    assert "utterance 1 has start_time {'original': '0:01:00.50'}" in capsys.readouterr().err


# --- NOTSOFAR-1

TRANSCRIPTION = [
    {
        "speaker_id": "Ron", "ct_wav_file_name": "close_talk/CT_21.wav", "start_time": 0.5,
        "end_time": 2.0, "text": "so <ST/> now",
        "word_timing": [["so", 0.5, 0.75], ["well", 0.75, 1.0], ["<ST/>", 1.0, 1.5],
                        ["now", 1.75, 2.0]],
    },
    {
        "speaker_id": "Emma", "ct_wav_file_name": "close_talk/CT_22.wav", "start_time": 1.25,
        "end_time": 1.5, "text": "yes", "word_timing": [["yes", 1.25, 1.5]],
    },
]  # fmt: skip


def device(name: str, files: list[str], mc: bool = False, worn: bool = False) -> dict[str, object]:
    return {
        "channels_num": len(files),
        "device_name": name,
        "is_close_talk": worn,
        "is_mc": mc,
        "wav_file_names": ", ".join(files),
    }


DEVICES = [
    device("meetup_0", ["sc_meetup_0/ch0.wav"]),
    device("rockfall_2", ["sc_rockfall_2/ch0.wav"]),
    device("rockfall_0", [f"mc_rockfall_0/ch{n}.wav" for n in range(2)], mc=True),
    device("CT_21", ["close_talk/CT_21.wav"], worn=True),
    device("CT_22", ["close_talk/CT_22.wav"], worn=True),
]


def build_notsofar(folder: Path, version: str, count: int) -> Path:
    for number in range(count):
        meeting = (
            folder / "benchmark-datasets" / "eval_set" / version / "MTG" / f"MTG_{32000 + number}"
        )
        write(meeting / "devices.json", json.dumps(DEVICES))
        write(meeting / "gt_transcription.json", json.dumps(TRANSCRIPTION))
        metadata = {"meeting_id": meeting.name, "ParticipantAliasToCtDevice": {"Ron": "CT_21"}}
        write(meeting / "gt_meeting_metadata.json", json.dumps(metadata))
        for row in DEVICES:
            for name in str(row["wav_file_names"]).split(", "):
                write_noise(meeting / name, 3.0, rate=8000)
    return folder


@pytest.fixture(scope="module")
def notsofar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notsofar1")
    build_notsofar(folder, "240629.1_eval_small_with_GT", 80)
    return build_notsofar(folder, "240825.1_dev1", 2)


def test_every_device_makes_a_session(notsofar: Path, tmp_path: Path) -> None:
    sessions = prepared("notsofar1", notsofar, tmp_path / "data")
    assert len(sessions) == 160  # as in NVIDIA's tables
    names = [session.session_id for session in sessions[:3]]
    assert names == ["MTG_32000_sc_meetup_0", "MTG_32000_sc_rockfall_2", "MTG_32001_sc_meetup_0"]
    for session in sessions:
        assert truth(session) == [(0.5, 2.0, "Ron"), (1.25, 1.5, "Emma")]
        assert session.session_id.startswith(f"{session.extra['meeting']}_sc_")
        assert session.extra["meeting"] in session.audio.parts
        assert regions(session) == [(0.0, 3.0)]


def test_words_are_another_reference(notsofar: Path, tmp_path: Path) -> None:
    options = ("--split", "dev", "--microphone", "mc", "--reference", "words")
    sessions = prepared("notsofar1", notsofar, tmp_path / "data", *options)
    assert [session.session_id for session in sessions] == [
        "MTG_32000_mc_rockfall_0", "MTG_32001_mc_rockfall_0",
    ]  # fmt: skip
    assert {session.audio.name for session in sessions} == {"ch0.wav"}
    for session in sessions:
        assert truth(session) == [(0.5, 1.0, "Ron"), (1.25, 1.5, "Emma"), (1.75, 2.0, "Ron")]


def test_close_talk_is_mixed_and_aligned_by_others(notsofar: Path, tmp_path: Path) -> None:
    for number in ("3200001", "3200002", "3200101"):  # two devices of one meeting, one of another
        name = f"S{number}"
        line = f"SPEAKER {name} 1 0.5 0.25 <NA> <NA> Ron <NA> <NA>\n"
        write(tmp_path / "aligned" / "dev" / f"{name}.rttm", line)
    options = ("--split", "dev", "--microphone", "mhm", "--reference", "forced_alignment")
    sessions = prepared(
        "notsofar1", notsofar, tmp_path / "data", *options, "--rttm", str(tmp_path / "aligned")
    )
    assert [session.session_id for session in sessions] == ["MTG_32000", "MTG_32001"]
    for session in sessions:
        assert truth(session) == [(0.5, 0.75, "Ron")]
        assert soundfile.info(session.audio).duration == 3.0


def test_what_notsofar_lacks_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    corpus = build_notsofar(tmp_path / "corpus", "240629.1_eval_small_with_GT", 2)
    assert run("notsofar1", corpus, tmp_path / "data") == 1
    said = capsys.readouterr().err
    assert (
        "240629.1_eval_small_with_GT/MTG has 2 meetings, but eval_small of NOTSOFAR-1 has 80"
        in said
    )
    assert run("notsofar1", corpus, tmp_path / "data", "--split", "train") == 1
    assert "lacks 1 of 1 files (240825.1_train/MTG/*/devices.json)" in capsys.readouterr().err
    build_notsofar(corpus, "240825.1_dev1", 1)
    (sound,) = corpus.rglob("240825.1_dev1/MTG/MTG_32000/sc_meetup_0/ch0.wav")
    sound.unlink()
    assert run("notsofar1", corpus, tmp_path / "data", "--split", "dev") == 1
    said = capsys.readouterr().err
    assert "lacks 1 of 2 files" in said and "MTG_32000/sc_meetup_0/ch0.wav)" in said
    write(sound.parents[1] / "devices.json", '[{"device_name": "meetup_0"}]')
    assert run("notsofar1", corpus, tmp_path / "data", "--split", "dev") == 1
    assert "devices.json: is no list of devices with wav_file_names" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_model_is_trained_on_the_corpus(tmp_path: Path) -> None:
    corpus = build_notsofar(tmp_path / "corpus", "240825.1_dev1", 1)
    build_notsofar(corpus, "240825.1_train", 2)
    few = ("trainer.max_steps=2", "data.num_workers=0", "data.window=3")
    options = ["--corpus", str(corpus), "--split", "dev", "--output", str(tmp_path / "exp")]
    options += ["--stop_stage", "2"]
    for setting in ("conf/tiny.yaml", *few):
        options += ["--train", setting]
    done = run_recipe("notsofar1", *options)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "exp" / "train" / "checkpoints" / "last.ckpt").is_file()
    found = {path.stem for path in (tmp_path / "exp" / "sys" / "train.sc.dev").glob("*.rttm")}
    assert found == {"MTG_32000_sc_meetup_0", "MTG_32000_sc_rockfall_2"}


def test_a_corpus_without_a_training_split_is_not_trained_on() -> None:
    done = run_recipe("libricss", "--corpus", ".", "--train", "conf/tiny.yaml")
    assert done.returncode == 2
    assert "--train is given, but this corpus has no training split" in done.stderr


# --- LibriCSS

CONDITIONS = {
    "0L": "0.0_sil2.9_3.0_session{}_actual0.0",
    "0S": "0.0_sil0.1_0.5_session{}_actual0.0",
    "OV10": "10.0_sil0.1_1.0_session{}_actual10.1",
    "OV20": "20.0_sil0.1_1.0_session{}_actual20.8",
    "OV30": "30.0_sil0.1_1.0_session{}_actual29.7",
    "OV40": "40.0_sil0.1_1.0_session{}_actual39.5",
}
INFO = (
    "start_time\tend_time\tspeaker\tutterance_id\ttranscription\n"
    "0.5\t1.75\t1089\t1089-134686-0000\tHE HOPED THERE WOULD BE STEW\n"
    "1.5\t2.5\t121\t121-121726-0000\tALSO A POPULAR CONTRIVANCE\n"
)


@pytest.fixture(scope="module")
def libricss(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("libricss")
    for condition, name in CONDITIONS.items():
        for number in range(10):
            session = folder / "for_release" / condition / f"overlap_ratio_{name.format(number)}"
            write_noise(session / "record" / "raw_recording.wav", 3.0, rate=8000, channels=7)
            write_noise(session / "clean" / "mix.wav", 3.0, rate=8000)
            write(session / "transcription" / "meeting_info.txt", INFO)
    return folder


def test_all_conditions_are_test_but_for_their_first_sessions(
    libricss: Path, tmp_path: Path
) -> None:
    sessions = prepared("libricss", libricss, tmp_path / "data")
    assert len(sessions) == 54
    assert {session.extra["condition"] for session in sessions} == set(CONDITIONS)
    for session in sessions:
        assert truth(session) == [(0.5, 1.75, "1089"), (1.5, 2.5, "121")]
        assert session.channel == 0
        condition, number = session.session_id.split("_session")
        assert session.audio.parts[-4:-1] == (
            condition, f"overlap_ratio_{CONDITIONS[condition].format(number)}", "record",
        )  # fmt: skip
    dev = prepared("libricss", libricss, tmp_path / "dev", "--split", "dev")
    assert [session.session_id for session in dev] == [f"{c}_session0" for c in CONDITIONS]


def test_a_condition_is_a_split(libricss: Path, tmp_path: Path) -> None:
    options = ("--split", "0S", "--microphone", "clean")
    sessions = prepared("libricss", libricss, tmp_path / "data", *options)
    assert [session.session_id for session in sessions] == [f"0S_session{n}" for n in range(1, 10)]
    assert {(session.audio.name, session.channel) for session in sessions} == {("mix.wav", None)}


def test_what_libricss_lacks_is_named(
    libricss: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    corpus = libricss / "for_release" / "OV10"
    assert run("libricss", corpus, tmp_path / "data") == 1
    said = capsys.readouterr().err
    assert "lacks 45 of 54 files (0L/overlap_ratio_*_session1_actual*/record/raw_recording" in said
    assert not (tmp_path / "data").exists()


def test_a_line_without_times_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for condition, name in CONDITIONS.items():
        session = tmp_path / condition / f"overlap_ratio_{name.format(0)}"
        write_noise(session / "record" / "raw_recording.wav", 3.0, rate=8000)
        write(session / "transcription" / "meeting_info.txt", INFO + "HE HOPED\n")
    assert run("libricss", tmp_path, tmp_path / "data", "--split", "dev") == 1
    assert "meeting_info.txt:4: is 'HE HOPED', but a line begins with" in capsys.readouterr().err


# --- lhotse's readers find the same


def test_lhotse_finds_the_same(chime6: Path, libricss: Path, tmp_path: Path) -> None:
    pytest.importorskip("lhotse")
    from lhotse.recipes.chime6 import prepare_chime6
    from lhotse.recipes.libricss import prepare_libricss

    theirs = prepare_libricss(libricss, type="sdm")["supervisions"]
    for session in prepared("libricss", libricss, tmp_path / "libricss"):
        assert truth(session) == spoken(theirs, session.session_id)
    theirs = prepare_chime6(
        chime6 / "CHiME6", dataset_parts="eval", mic="mdm", perform_array_sync=False
    )["eval"]["supervisions"]
    redacted = (62.0, 62.5, "P04")  # which they keep
    for session in prepared("chime6", chime6, tmp_path / "chime6"):
        found = spoken(theirs, session.session_id)
        found.remove(redacted)
        assert truth(session) == found


def spoken(supervisions: object, recording: str) -> list[tuple[float, float, str]]:
    return sorted(
        (s.start, round(s.end, 3), s.speaker)
        for s in supervisions  # type: ignore[attr-defined]
        if s.recording_id == recording
    )
