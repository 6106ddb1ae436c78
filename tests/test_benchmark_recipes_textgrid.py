"""Recipes of corpora that are labelled in TextGrids, on miniatures: what is written arrives."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from miniatures import RECIPES, prepared, regions, run, truth, write, write_noise
from textgrids import Entry, long_form, short_form

from diarize.audio import read_audio
from diarize.benchmark import read_list
from diarize.manifest import check_manifest

LISTS = RECIPES.parent / "manifests"
SECONDS = 2.0


# AISHELL-4

TALK: dict[str, list[Entry]] = {
    "001-M": [(0.25, 1.0, "你好<sil>"), (1.2, 1.5, "<%>")],
    "002-F": [(0.75, 1.25, "嗯")],
    "003-F": [],
}
ROOMS = {
    "test": read_list(LISTS / "aishell4" / "test.txt"),
    "train_L": ["20200706_L_R001S01C01", "20200706_L_R001S02C01"],
    "train_M": ["20200622_M_R002S07C01", "20200710_M_R002S06C01"],
    "train_S": ["20200805_S_R001S01C01"],
}


@pytest.fixture(scope="module")
def aishell4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OpenSLR's archives, unpacked; one meeting's labels have a tier that ends too early."""
    folder = tmp_path_factory.mktemp("aishell4")
    for room, meetings in ROOMS.items():
        for name in meetings:
            write_noise(folder / room / "wav" / f"{name}.flac", SECONDS, channels=8)
            text = long_form(TALK, SECONDS)
            if name == "20200622_M_R002S07C01":  # as released
                text = text.replace('"001-M" \n        xmin = 0 \n        xmax = 2 ',
                                    '"001-M" \n        xmin = 0 \n        xmax = 1 ')  # fmt: skip
                assert "xmax = 1 " in text
            write(folder / room / "TextGrid" / f"{name}.TextGrid", text)
            line = f"SPEAKER {name} 1 0.250 0.700 <NA> <NA> 001-M <NA> <NA>\n"
            write(folder / room / "TextGrid" / f"{name}.rttm", line)
    return folder


def test_aishell4_arrives(aishell4: Path, tmp_path: Path) -> None:
    sessions = prepared("aishell4", aishell4, tmp_path / "data")
    assert [s.session_id for s in sessions] == ROOMS["test"]
    assert len(sessions) == 20
    for session in sessions:
        assert truth(session) == [(0.25, 0.95, "001-M")]
        assert (session.duration, regions(session)) == (SECONDS, [(0.0, SECONDS)])
        assert session.extra["reference"] == "rttm"


@pytest.mark.parametrize("split", ["test", "train", "train_L", "train_M", "train_S"])
def test_aishell4_transcripts_arrive(split: str, aishell4: Path, tmp_path: Path) -> None:
    options = ("--split", split, "--reference", "textgrid")
    sessions = prepared("aishell4", aishell4, tmp_path / "data", *options)
    trained = [name for room in ROOMS if room != "test" for name in ROOMS[room]]
    assert [s.session_id for s in sessions] == ROOMS.get(split, trained)
    for session in sessions:
        assert truth(session) == [
            (0.25, 1.0, "001-M"), (0.75, 1.25, "002-F"), (1.2, 1.5, "001-M"),
        ]  # fmt: skip
    assert check_manifest(tmp_path / "data" / f"{split}.jsonl", []) == []


def test_aishell4_in_part(aishell4: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("aishell4", aishell4, tmp_path / "data", "--split", "train") == 0
    said = capsys.readouterr().err
    assert "note: there are 5 meetings in train_L, train_M, train_S, but 191 were released" in said
    for room in ("train_L", "train_S"):
        (tmp_path / "c").mkdir(exist_ok=True)
        (tmp_path / "c" / room).symlink_to(aishell4 / room)
    assert run("aishell4", tmp_path / "c", tmp_path / "more", "--split", "train") == 1
    said = capsys.readouterr().err
    assert "lacks 1 of 3 files (train_M/wav/*.flac), but train of AISHELL-4 needs all" in said
    write(tmp_path / "c" / "train_M" / "TextGrid" / "20200622_M_R002S07C01.rttm", "")
    assert run("aishell4", tmp_path / "c", tmp_path / "more", "--split", "train") == 1
    said = capsys.readouterr().err
    assert "lacks 1 of 4 files (train_M/wav/20200622_M_R002S07C01.flac), but train of" in said
    assert "train_M.tar.gz" in said and "https://www.openslr.org/111/" in said
    assert not (tmp_path / "more").exists()


def test_aishell4_with_a_transcript_that_is_cut_off(
    aishell4: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    name = ROOMS["train_S"][0]
    write_noise(tmp_path / "c" / "train_S" / "wav" / f"{name}.flac", SECONDS)
    text = long_form(TALK, SECONDS)
    write(tmp_path / "c" / "train_S" / "TextGrid" / f"{name}.TextGrid", text[: len(text) // 2])
    options = ("--split", "train_S", "--reference", "textgrid")
    assert run("aishell4", tmp_path / "c", tmp_path / "data", *options) == 1
    said = capsys.readouterr().err
    assert f"{name}.TextGrid:" in said and "cut off?" in said
    assert not (tmp_path / "data").exists()


# AliMeeting

PEOPLE = ("SPK8013", "SPK8014", "SPK8015")


def talk(number: int, who: int) -> list[Entry]:
    """What one of three says in one of the meetings."""
    start = 0.1 + 0.4 * who
    return [(start, round(start + 0.5 + number / 100, 2), f"第{number}句")]


def said_in(number: int) -> list[tuple[float, float, str]]:
    """The same as it is to arrive."""
    turns = [(*talk(number, who)[0][:2], f"N_{name}") for who, name in enumerate(PEOPLE)]
    return sorted(turns)


@pytest.fixture(scope="module")
def alimeeting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OpenSLR's archives, unpacked: Train is two folders, Eval and Test are one each."""
    folder = tmp_path_factory.mktemp("alimeeting")
    splits = {name: read_list(LISTS / "alimeeting" / f"{name}.txt") for name in ("eval", "test")}
    splits["train"] = ["R0003_M0046", "R0003_M0047"]
    for split, meetings in splits.items():
        part = f"{split.title()}_Ali"
        above = folder if split == "train" else folder / part
        far, near = above / f"{part}_far", above / f"{part}_near"
        for number, meeting in enumerate(meetings):
            write_noise(far / "audio_dir" / f"{meeting}_MS80{number % 9}.wav", SECONDS, channels=8)
            # Most tiers are named by the person alone, some by the meeting as well.
            head = f"{meeting}_" if number % 2 else ""
            tiers = {f"{head}N_{name}": talk(number, who) for who, name in enumerate(PEOPLE)}
            write(far / "textgrid_dir" / f"{meeting}.TextGrid", long_form(tiers, SECONDS))
            for who, name in enumerate(PEOPLE):
                stem = f"{meeting}_N_{name}"
                path = near / "audio_dir" / f"{stem}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                samples = round(16000 * (SECONDS - 0.1 * who))  # the headsets end one by one
                soundfile.write(path, np.full(samples, 0.3 * (who + 1)), 16000)
                tier = {stem: talk(number, who)}
                text = short_form(tier, SECONDS)
                write(near / "textgrid_dir" / f"{stem}.TextGrid", text, encoding="utf-16")
    return folder


@pytest.mark.parametrize(("split", "count"), [("test", 20), ("eval", 8), ("train", 2)])
@pytest.mark.parametrize("microphone", ["far", "near"])
def test_alimeeting_arrives(
    split: str, count: int, microphone: str, alimeeting: Path, tmp_path: Path
) -> None:
    options = ("--split", split, "--microphone", microphone)
    sessions = prepared("alimeeting", alimeeting, tmp_path / "data", *options)
    assert len(sessions) == count
    if split != "train":
        assert [s.session_id for s in sessions] == read_list(LISTS / "alimeeting" / f"{split}.txt")
    for number, session in enumerate(sessions):
        assert truth(session) == said_in(number)
        assert (session.duration, regions(session)) == (SECONDS, [(0.0, SECONDS)])
        assert (session.num_speakers, session.extra["microphone"]) == (3, microphone)
    assert check_manifest(tmp_path / "data" / f"{split}.jsonl", []) == []


def test_alimeeting_near_is_the_mean_of_the_headsets(alimeeting: Path, tmp_path: Path) -> None:
    options = ("--split", "train", "--microphone", "near")
    first, _ = prepared("alimeeting", alimeeting, tmp_path / "data", *options)
    assert first.audio.resolve() == tmp_path / "data" / "audio" / "train" / "R0003_M0046.flac"
    waveform = read_audio(first.audio)
    assert waveform[:: 16000 // 2][:3] == pytest.approx([0.6] * 3, abs=1e-4)
    assert first.channel is None
    assert waveform[[-1, -16000 // 10 - 1]] == pytest.approx([0.1, 0.3], abs=1e-4)


def test_alimeeting_far_is_the_first_of_all_channels(alimeeting: Path, tmp_path: Path) -> None:
    sessions = prepared("alimeeting", alimeeting, tmp_path / "data")
    assert sessions[0].audio.name == "R8002_M8002_MS800.wav"
    assert soundfile.info(sessions[0].audio).channels == 8
    assert {session.channel for session in sessions} == {0}


@pytest.mark.parametrize("microphone", ["far", "near"])
def test_alimeeting_by_forced_alignment(microphone: str, alimeeting: Path, tmp_path: Path) -> None:
    for name in read_list(LISTS / "alimeeting" / "test.txt"):
        line = f"SPEAKER {name} 1 0.500 0.250 <NA> <NA> N_SPK8013 <NA> <NA>\n"
        write(tmp_path / "fa" / "AliMeeting" / "Test_Ali_far" / f"{name}.rttm", line)
    options = ("--reference", "forced_alignment", "--rttm", str(tmp_path / "fa"))
    for session in prepared(
        "alimeeting", alimeeting, tmp_path / "data", *options, "--microphone", microphone
    ):
        assert truth(session) == [(0.5, 0.75, "N_SPK8013")]
        assert session.extra["reference"] == "forced_alignment"


def test_alimeeting_in_part(
    alimeeting: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "Eval_Ali").symlink_to(alimeeting / "Eval_Ali")
    assert run("alimeeting", tmp_path / "c", tmp_path / "data") == 1
    said = capsys.readouterr().err
    assert "lacks 40 of 40 files (Test_Ali_far/audio_dir/R8002_M8002*.wav, " in said
    assert "but test of AliMeeting needs all. Get Test_Ali.tar.gz" in said
    assert run("alimeeting", tmp_path / "c", tmp_path / "data", "--split", "train") == 1
    assert "lacks 1 of 1 files (Train_Ali_far/audio_dir/*.wav)" in capsys.readouterr().err
    near = tmp_path / "c" / "Train_Ali_near"
    for stem in ("R0003_M0046_N_SPK8013", "R0003_M0046_N_SPK8014"):
        write_noise(near / "audio_dir" / f"{stem}.wav", SECONDS)
    options = ("--split", "train", "--microphone", "near")
    for stem in ("R0003_M0046_N_SPK8013", "R0003_M0046_N_SPK8015"):
        write(near / "textgrid_dir" / f"{stem}.TextGrid", short_form({stem: talk(0, 0)}, SECONDS))
    assert run("alimeeting", tmp_path / "c", tmp_path / "data", *options) == 1
    said = capsys.readouterr().err
    assert "lacks 2 of 6 files (Train_Ali_near/textgrid_dir/R0003_M0046_N_SPK8014.TextGrid" in said
    assert "Train_Ali_near/audio_dir/R0003_M0046_N_SPK8015.wav)" in said
    assert not (tmp_path / "data").exists()


def test_alimeeting_that_is_there_twice_is_refused(
    alimeeting: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_noise(tmp_path / "c" / "copy" / "Test_Ali_far" / "audio_dir" / "R8002_M8002_MS800.wav", 1)
    (tmp_path / "c" / "Test_Ali").symlink_to(alimeeting / "Test_Ali")
    assert run("alimeeting", tmp_path / "c", tmp_path / "data") == 1
    assert "R8002_M8002_MS800.wav, but one is needed" in capsys.readouterr().err


@pytest.mark.parametrize("recipe", ["aishell4", "alimeeting"])
def test_an_empty_folder_says_where_to_get_the_corpus(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "c").mkdir()
    assert run(recipe, tmp_path / "c", tmp_path / "data") == 1
    said = capsys.readouterr().err
    assert said.startswith(f"prepare.py: {tmp_path / 'c'}: lacks ")
    assert "https://www.openslr.org/1" in said
    assert not (tmp_path / "data").exists()


def as_lhotse_has_them(manifests: dict, name: str) -> list[tuple[float, float]]:
    """Turns of a recording, without speakers, whom it renames."""
    of = [s for s in manifests["supervisions"] if s.recording_id == name]
    return sorted((round(s.start, 3), round(s.end, 3)) for s in of)


def test_lhotse_has_the_same_turns(aishell4: Path, alimeeting: Path, tmp_path: Path) -> None:
    pytest.importorskip("textgrid")
    recipes = pytest.importorskip("lhotse.recipes")
    theirs = recipes.prepare_aishell4(aishell4)
    for ours in prepared("aishell4", aishell4, tmp_path / "a", "--reference", "textgrid"):
        assert [t[:2] for t in truth(ours)] == as_lhotse_has_them(theirs["test"], ours.session_id)
    # It leaves out the meeting with the tier that ends too early.
    assert [r.id for r in theirs["train_M"]["recordings"]] == ROOMS["train_M"][1:]
    theirs = recipes.prepare_ali_meeting(alimeeting, mic="far")["test"]
    for ours in prepared("alimeeting", alimeeting, tmp_path / "b"):
        assert [t[:2] for t in truth(ours)] == as_lhotse_has_them(theirs, ours.session_id)
