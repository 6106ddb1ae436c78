"""Recipes of corpora that come with RTTM, on miniatures of them: what is written arrives."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from miniatures import RECIPES, prepared, regions, run, truth, write, write_noise

from diarize.audio import read_audio
from diarize.benchmark import read_list
from diarize.manifest import check_manifest

LISTS = RECIPES.parent / "manifests"
SECONDS = 1.5


def ids(corpus: str, split: str) -> list[str]:
    """An official list."""
    return read_list(LISTS / corpus / f"{split}.txt")


def rttm(name: str, turns: Sequence[tuple[str, str, str]], channel: str = "1") -> str:
    """RTTM as these corpora write it: start, duration, speaker."""
    lines = (f"SPEAKER {name} {channel} {s} {d} <NA> <NA> {who} <NA> <NA>" for s, d, who in turns)
    return "".join(f"{line}\n" for line in lines)


def spoken(number: int) -> list[tuple[str, str, str]]:
    """Turns that differ from recording to recording."""
    second = f"spk{1 + number % 7:02d}"
    return [("0.03000", "0.50000", "spk00"), (f"0.{30 + number % 60}000", "0.40000", second)]


def heard(number: int) -> list[tuple[float, float, str]]:
    """The same, as they are to arrive."""
    turns = []
    for start, duration, who in spoken(number):
        turns.append((float(start), round(float(start) + float(duration), 3), who))
    return turns


# VoxConverse


@pytest.fixture(scope="module")
def voxconverse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Archives of audio and the repository of labels, side by side."""
    folder = tmp_path_factory.mktemp("voxconverse")
    for split, place in (("dev", "audio"), ("test", "voxconverse_test_wav")):
        for number, name in enumerate(ids("voxconverse", split)):
            write_noise(folder / place / f"{name}.wav", SECONDS, rate=8000)
            write(folder / "voxconverse" / split / f"{name}.rttm", rttm(name, spoken(number)))
    write(folder / "__MACOSX" / "voxconverse_test_wav" / "._aepyx.wav", "")
    return folder


@pytest.mark.parametrize(("split", "count"), [("dev", 216), ("test", 232)])
def test_voxconverse_arrives(split: str, count: int, voxconverse: Path, tmp_path: Path) -> None:
    sessions = prepared("voxconverse", voxconverse, tmp_path / "data", "--split", split)
    assert [s.session_id for s in sessions] == ids("voxconverse", split)
    assert len(sessions) == count
    for number, session in enumerate(sessions):
        assert truth(session) == heard(number)
        assert regions(session) == [(0.0, SECONDS)]
    assert {(s.extra["split"], s.extra["reference"]) for s in sessions} == {(split, "v0_3")}
    assert check_manifest(tmp_path / "data" / f"{split}.jsonl", []) == []


def test_voxconverse_splits_share_nobody() -> None:
    assert not set(ids("voxconverse", "dev")) & set(ids("voxconverse", "test"))


def test_voxconverse_of_two_versions_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for number, name in enumerate(ids("voxconverse", "dev")):
        write_noise(tmp_path / "c" / "audio" / f"{name}.wav", 0.1)
        for clone in ("voxconverse-master", "voxconverse-ver0.2"):
            write(tmp_path / "c" / clone / "dev" / f"{name}.rttm", rttm(name, spoken(number)))
    assert run("voxconverse", tmp_path / "c", tmp_path / "data", "--split", "dev") == 1
    assert "but one is needed. Name a folder that has only one" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


# DIHARD III

TABLE = "uri\tin_core\tlang\tdomain\tsource\tx1\tx2\tx3\tx4\n"
"""Only the names ``uri`` and ``domain``, and the order of the first five, are published."""


@pytest.fixture(scope="module")
def dihard3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both releases, of three recordings each; the third is not in the core set."""
    folder = tmp_path_factory.mktemp("dihard3")
    for release, short in (("LDC2022S12", "DEV"), ("LDC2022S14", "EVAL")):
        rows, full, core = TABLE, "", ""
        for number in range(3):
            name = f"DH_{short}_{number + 1:04d}"
            write_noise(folder / release / "data" / "flac" / f"{name}.flac", SECONDS)
            turns = rttm(name, spoken(number))
            write(folder / release / "data" / "rttm" / f"{name}.rttm", turns)
            region = f"{name} 1 0.100 1.4{number}0\n"
            write(folder / release / "data" / "uem" / f"{name}.uem", region)
            full, core = full + region, core + (region if number < 2 else "")
            domain = ("court", "webvideo", "cts")[number]
            rows += f"{name}\t{number < 2}\teng\t{domain}\tX\t1\t2\t3\t4\n"
        write(folder / release / "data" / "uem_scoring" / "full" / "all.uem", full)
        write(folder / release / "data" / "uem_scoring" / "full" / "court.uem", full[:30])
        write(folder / release / "data" / "uem_scoring" / "core" / "all.uem", core)
        write(folder / release / "docs" / "recordings.tbl", rows)
    return folder


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("eval", ["DH_EVAL_0001", "DH_EVAL_0002", "DH_EVAL_0003"]),
        ("dev", ["DH_DEV_0001", "DH_DEV_0002", "DH_DEV_0003"]),
        ("eval_core", ["DH_EVAL_0001", "DH_EVAL_0002"]),
        ("dev_core", ["DH_DEV_0001", "DH_DEV_0002"]),
    ],
)
def test_dihard3_arrives(split: str, names: list[str], dihard3: Path, tmp_path: Path) -> None:
    sessions = prepared("dihard3", dihard3, tmp_path / "data", "--split", split)
    assert [s.session_id for s in sessions] == names
    for number, session in enumerate(sessions):
        assert truth(session) == heard(number)
        assert regions(session) == [(0.1, 1.4 + number / 100)]
        assert session.extra["domain"] == ("court", "webvideo", "cts")[number]
    assert check_manifest(tmp_path / "data" / f"{split}.jsonl", []) == []


def test_dihard3_without_one_release(
    dihard3: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert run("dihard3", dihard3 / "LDC2022S12", tmp_path / "data") == 1
    said = capsys.readouterr().err
    assert "lacks 1 of 1 files (uem_scoring/full/all.uem of eval), but eval of DIHARD III" in said
    assert "LDC2022S14 (eval) from https://catalog.ldc.upenn.edu/" in said
    assert not (tmp_path / "data").exists()


def test_dihard3_with_a_table_of_other_columns(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write(tmp_path / "c" / "uem_scoring" / "full" / "all.uem", "DH_EVAL_0001 1 0 1\n")
    write_noise(tmp_path / "c" / "flac" / "DH_EVAL_0001.flac", SECONDS)
    write(tmp_path / "c" / "rttm" / "DH_EVAL_0001.rttm", rttm("DH_EVAL_0001", spoken(0)))
    assert run("dihard3", tmp_path / "c", tmp_path / "data") == 0
    assert "note: docs/recordings.tbl has no domain of 1 recordings" in capsys.readouterr().err
    write(tmp_path / "c" / "docs" / "recordings.tbl", "uri,domain\nDH_EVAL_0001,court\n")
    assert run("dihard3", tmp_path / "c", tmp_path / "more") == 1
    said = capsys.readouterr().err
    assert "recordings.tbl:1: has the columns uri,domain, but 'uri' and 'domain' are" in said


# CALLHOME


def write_sph(path: Path, waveform: np.ndarray, coding: str = "ulaw") -> None:
    """NIST SPHERE as the LDC has it: 8 kHz, mu-law; (sample, channel)."""
    raw = io.BytesIO()
    soundfile.write(raw, waveform, 8000, format="RAW", subtype="ULAW")
    head = (
        f"NIST_1A\n   1024\nsample_count -i {len(waveform)}\nsample_rate -i 8000\n"
        f"channel_count -i {waveform.shape[1]}\nsample_n_bytes -i 1\nsample_byte_format -s1 1\n"
        f"sample_sig_bits -i 8\nsample_coding -s{len(coding)} {coding}\nend_head\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head.encode().ljust(1024) + raw.getvalue())


@pytest.fixture(scope="module")
def callhome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Disc 8, and the key of OpenSLR, which counts channels from 0."""
    folder = tmp_path_factory.mktemp("callhome")
    calls = sorted([*ids("callhome", "part1"), *ids("callhome", "part2"), "iaeu"])
    rng = np.random.default_rng(0)
    for number, name in enumerate(calls):
        noise = rng.normal(0.0, 0.05, (round(SECONDS * 8000), 1 + number % 2))
        write_sph(folder / "r65_8_1" / "sid00sg1" / "data" / f"{name}.sph", noise)
    key = "".join(
        rttm(
            name, [("0", "1.08", "B"), ("0.85", f"0.{10 + number % 50}", "A"), ("1", "0", "A")], "0"
        )
        for number, name in enumerate(calls)
    )
    write(folder / "sre2000-key" / "fullref.rttm", key)
    return folder


@pytest.mark.parametrize(("split", "count"), [("part1", 249), ("part2", 250)])
def test_callhome_arrives(split: str, count: int, callhome: Path, tmp_path: Path) -> None:
    calls = sorted([*ids("callhome", "part1"), *ids("callhome", "part2"), "iaeu"])
    sessions = prepared("callhome", callhome, tmp_path / "data", "--split", split)
    assert [s.session_id for s in sessions] == ids("callhome", split)
    assert len(sessions) == count
    for session in sessions:
        end = round(0.85 + (10 + calls.index(session.session_id) % 50) / 100, 2)
        assert truth(session) == [(0.0, 1.08, "B"), (0.85, end, "A")]
        assert (session.duration, regions(session)) == (SECONDS, [(0.0, SECONDS)])
    assert check_manifest(tmp_path / "data" / f"{split}.jsonl", []) == []


def test_callhome_parts_are_those_of_kaldi() -> None:
    one, two = set(ids("callhome", "part1")), set(ids("callhome", "part2"))
    assert not one & two
    assert {"iaaa", "iaau"} <= one and {"iaab", "iaba"} <= two and "iaeu" not in one | two


def test_callhome_is_heard_without_a_converter(tmp_path: Path) -> None:
    time = np.arange(8000) / 8000
    tone = np.stack([0.5 * np.sin(2 * np.pi * 440 * time), np.zeros_like(time)], axis=1)
    write_sph(tmp_path / "iaaa.sph", tone)
    waveform = read_audio(tmp_path / "iaaa.sph", channel=0, sample_rate=8000)
    assert np.abs(waveform - tone[:, 0]).max() < 0.02


def test_callhome_may_have_been_converted(
    callhome: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in ids("callhome", "part2"):
        write_noise(tmp_path / "c" / f"{name}.wav", SECONDS, rate=8000)
    assert run("callhome", tmp_path / "c", tmp_path / "data") == 1
    said = capsys.readouterr().err
    assert (
        "lacks 1 of 1 files (fullref.rttm), but part2 of CALLHOME needs all. Get LDC2001S97" in said
    )
    key = (callhome / "sre2000-key" / "fullref.rttm").read_text()
    write(tmp_path / "c" / "fullref.rttm", key.replace("iaab ", "iaaZ "))
    assert run("callhome", tmp_path / "c", tmp_path / "data") == 1
    assert "lacks 1 of 250 files (iaab in fullref.rttm), but" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
    write(tmp_path / "c" / "fullref.rttm", key)
    first, *_ = prepared("callhome", tmp_path / "c", tmp_path / "data")
    assert first.audio.name == "iaab.wav"


def test_callhome_that_is_packed_says_what_to_do(
    callhome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "")  # no ffmpeg
    for name in ids("callhome", "part2"):
        write_sph(tmp_path / "c" / f"{name}.sph", np.zeros((80, 1)), "pcm,embedded-shorten-v2.00")
    write(tmp_path / "c" / "k.txt", "")
    (tmp_path / "c" / "key").symlink_to(callhome / "sre2000-key")
    assert run("callhome", tmp_path / "c", tmp_path / "data") == 1
    said = capsys.readouterr().err
    assert "iaab.sph: libsndfile cannot read it" in said and "convert the file to WAV" in said
    assert not (tmp_path / "data").exists()


# Earnings-21


@pytest.fixture(scope="module")
def earnings21(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository, with the label that has no recording."""
    folder = tmp_path_factory.mktemp("speech-datasets") / "earnings21"
    (folder / "media").mkdir(parents=True)
    noise = np.random.default_rng(0).normal(0.0, 0.05, 24000 * 3 // 2)
    for number, name in enumerate([*ids("earnings21", "test"), "4396498"]):
        if name != "4396498":
            soundfile.write(folder / "media" / f"{name}.mp3", noise, 24000)
        turns = [("0.10", "0.3", "0"), (f"0.{40 + number}", "0.200", "1")]
        write(folder / "rttms" / f"{name}.rttm", rttm(name, turns))
        write(folder / "output" / "amazon" / f"{name}.nlp", "token|speaker|ts|endTs\n")
    return folder


@pytest.mark.parametrize(("split", "count"), [("test", 44), ("eval10", 11)])
def test_earnings21_arrives(split: str, count: int, earnings21: Path, tmp_path: Path) -> None:
    sessions = prepared("earnings21", earnings21.parent, tmp_path / "data", "--split", split)
    assert [s.session_id for s in sessions] == ids("earnings21", split)
    assert len(sessions) == count
    for session in sessions:
        start = (40 + ids("earnings21", "test").index(session.session_id)) / 100
        assert truth(session) == [(0.1, 0.4, "0"), (start, round(start + 0.2, 3), "1")]
    assert check_manifest(tmp_path / "data" / f"{split}.jsonl", []) == []


def test_earnings21_without_its_large_files(
    earnings21: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for name in ids("earnings21", "test"):
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
        write(tmp_path / "c" / "media" / f"{name}.mp3", pointer)
    (tmp_path / "c" / "rttms").symlink_to(earnings21 / "rttms")
    assert run("earnings21", tmp_path / "c", tmp_path / "data") == 1
    said = capsys.readouterr().err
    assert "stands for a recording that Git LFS has not fetched" in said
    assert "git lfs pull --include 'earnings21/media/*'" in said
    assert not (tmp_path / "data").exists()


# All of them


@pytest.mark.parametrize("recipe", ["voxconverse", "dihard3", "callhome", "earnings21"])
def test_an_empty_folder_says_where_to_get_the_corpus(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "c").mkdir()
    assert run(recipe, tmp_path / "c", tmp_path / "data") == 1
    said = capsys.readouterr().err
    assert said.startswith(f"prepare.py: {tmp_path / 'c'}: lacks ") and "https://" in said
    assert not (tmp_path / "data").exists()


def test_a_label_of_another_recording_is_refused(
    voxconverse: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "audio").symlink_to(voxconverse / "audio")
    for name in ids("voxconverse", "dev"):
        write(tmp_path / "c" / "dev" / f"{name}.rttm", rttm("aepyx", spoken(0)))
    assert run("voxconverse", tmp_path / "c", tmp_path / "data", "--split", "dev") == 1
    assert "holds session 'aepyx', but 'abjxc' is sought there" in capsys.readouterr().err


def as_lhotse_has_them(manifests: dict, name: str) -> list[tuple[float, float, str]]:
    """Turns of a recording, with speakers as the corpus calls them."""
    of = [s for s in manifests["supervisions"] if s.recording_id == name]
    turns = [(round(s.start, 3), round(s.end, 3), s.speaker.removeprefix(f"{name}_")) for s in of]
    return sorted(turns)


def test_lhotse_has_the_same_of_dihard3(dihard3: Path, tmp_path: Path) -> None:
    recipes = pytest.importorskip("lhotse.recipes.dihard3")
    theirs = recipes.prepare_dihard3(dihard3 / "LDC2022S12", dihard3 / "LDC2022S14")
    for split in ("dev", "eval"):
        for ours in prepared("dihard3", dihard3, tmp_path / split, "--split", split):
            assert truth(ours) == as_lhotse_has_them(theirs[split], ours.session_id)


def test_lhotse_has_the_same_of_callhome(callhome: Path, tmp_path: Path) -> None:
    recipes = pytest.importorskip("lhotse.recipes.callhome_english")
    # Its whole recipe would read the recordings through sph2pipe.
    theirs = {"supervisions": recipes.read_rttm(callhome / "sre2000-key" / "fullref.rttm")}
    for ours in prepared("callhome", callhome, tmp_path / "data")[:40]:
        assert truth(ours) == as_lhotse_has_them(theirs, ours.session_id)
