"""benchmark: files of a corpus found; and what is true of every recipe."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from miniatures import RECIPES, write
from scripts import load_script

from diarize.benchmark import Benchmark, Request, prepare, read_list
from diarize.errors import CorpusError
from diarize.turns import Turn

TALKS = Benchmark(
    "Talks",
    "Get it from https://talks.example.",
    splits=("test", "dev"),
    microphones=("far", "near"),
    references=("words", "forced_alignment"),
)
NAMES = sorted(path.parent.name for path in RECIPES.glob("*/run.sh"))
BENCHMARKS = [name for name in NAMES if "benchmark.sh" in (RECIPES / name / "run.sh").read_text()]


def request_of(corpus: Path, **asked: Path) -> Request:
    return Request(TALKS, corpus, "test", "far", "words", **asked)


def test_files_are_found_by_the_end_of_their_path(tmp_path: Path) -> None:
    for name in ("a/Bmr1/chan6.sph", "a/Bmr2/chan6.sph", "b/T1_mix_MS801.WAV"):
        write(tmp_path / name, "")
    wanted = {"one": "bmr1/chan6.sph", "two": "Bmr2/chan6.sph", "three": ("t1.wav", "t1_mix_*.wav")}
    assert request_of(tmp_path).find(wanted) == {
        "one": tmp_path / "a/Bmr1/chan6.sph",
        "two": tmp_path / "a/Bmr2/chan6.sph",
        "three": tmp_path / "b/T1_mix_MS801.WAV",
    }


def test_links_are_followed_and_a_circle_ends(tmp_path: Path) -> None:
    write(tmp_path / "disk" / "one.wav", "")
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "linked").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "back").symlink_to(tmp_path / "corpus")
    found = request_of(tmp_path / "corpus").find({"one": "one.wav"})
    assert found == {"one": tmp_path / "corpus" / "linked" / "one.wav"}


def test_a_file_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write(tmp_path / folder / "one.wav", "")
    with pytest.raises(CorpusError, match=r"one\.wav is .*a/one\.wav and .*b/one\.wav, but one"):
        request_of(tmp_path).find({"": "one.wav"})


def test_all_that_is_missing_is_named_with_the_place_to_get_it(tmp_path: Path) -> None:
    write(tmp_path / "3.wav", "")
    names = {str(number): f"{number}.wav" for number in range(8)}
    message = (
        r"lacks 7 of 8 files \(0\.wav, 1\.wav, 2\.wav, 4\.wav, 5\.wav and 2 more\), but test of "
        r"Talks needs all\. Get it from https://talks\.example\."
    )
    with pytest.raises(CorpusError, match=message):
        request_of(tmp_path).find(names)
    with pytest.raises(CorpusError, match=r"lacks 1 of 1 files \(4\.wav or 4\.flac\)"):
        request_of(tmp_path).find({"": ("4.wav", "4.flac")})


def test_turns_of_others_are_found_by_the_ids_inside(tmp_path: Path) -> None:
    write(tmp_path / "x" / "all.rttm", "SPEAKER a 1 0 1 <NA> <NA> A <NA> <NA>\n")
    alone = request_of(tmp_path, rttm=tmp_path / "x" / "all.rttm")
    request = request_of(tmp_path, rttm=tmp_path)
    for place in (alone, request):
        assert place.turns_of_others(["a"]) == {"a": [Turn(0.0, 1.0, "A")]}
    with pytest.raises(CorpusError, match=r"no RTTM file here holds 'b', but test of Talks has 2"):
        request.turns_of_others(["a", "b"])
    write(tmp_path / "y" / "b_rttm", "SPEAKER a_U06 1 0 1 <NA> <NA> A <NA> <NA>\n")
    twice = request.turns_of_others(["a"], lambda name: name.removesuffix("_U06"))
    assert twice == {"a": [Turn(0.0, 1.0, "A")]}
    write(tmp_path / "y" / "a.rttm", "SPEAKER a 1 0 2 <NA> <NA> A <NA> <NA>\n")
    with pytest.raises(CorpusError, match=r"y/a\.rttm: holds session 'a', but so does .*all\.rttm"):
        request.turns_of_others(["a"])


def test_every_file_of_a_name_is_found(tmp_path: Path) -> None:
    for name in ("v1/MTG/MTG_2/devices.json", "v1/MTG/MTG_1/devices.json", "v2/devices.json"):
        write(tmp_path / name, "[]")
    found = request_of(tmp_path).files("v1/MTG/*/devices.json")
    assert [path.parent.name for path in found] == ["MTG_1", "MTG_2"]
    assert request_of(tmp_path).files("v3/*.json") == []


def test_an_rttm_of_another_session_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.rttm", "SPEAKER a 1 0 1 <NA> <NA> A <NA> <NA>\n")
    request = request_of(tmp_path)
    assert request.turns_in(path, "a") == [Turn(0.0, 1.0, "A")]
    assert request.turns_in(write(tmp_path / "b.rttm", ""), "b") == []
    with pytest.raises(CorpusError, match=r"a\.rttm: holds session 'a', but 'b' is sought there"):
        request.turns_in(path, "b")


def test_no_session_is_no_split(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert prepare(TALKS, lambda _: [], [str(tmp_path), str(tmp_path / "data")]) == 1
    assert f"{tmp_path}: has no session of test, but a split has some" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_the_corpus_must_be_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert prepare(TALKS, lambda _: [], [str(tmp_path / "no"), str(tmp_path / "data")]) == 1
    assert "no: is no folder, but Talks is one. Get it from" in capsys.readouterr().err


def test_lists_are_read_without_their_comments(tmp_path: Path) -> None:
    path = write(tmp_path / "list.txt", "# source\none\n\ntwo  # second\n")
    assert read_list(path) == ["one", "two"]
    with pytest.raises(CorpusError, match="names 3 sessions, 2 of them different, but"):
        read_list(write(path, "one\ntwo\none\n"))


@pytest.mark.parametrize("path", sorted((RECIPES.parent / "manifests").glob("*/*.txt")), ids=str)
def test_every_list_names_its_source(path: Path) -> None:
    assert read_list(path)
    head = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert re.search(r"https?://|doi:", " ".join(head))


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_recipe_is_three_files_of_one_kind(name: str) -> None:
    folder = RECIPES / name
    assert {path.name for path in folder.iterdir()} - {"__pycache__"} == {
        "run.sh", "prepare.py", "RESULTS.md",
    }  # fmt: skip
    assert os.access(folder / "run.sh", os.X_OK)
    subprocess.run(["bash", "-n", folder / "run.sh"], check=True)
    benchmark = load_script(folder / "prepare.py").BENCHMARK
    said = (folder / "run.sh").read_text()
    words = dict(re.findall(r"\b(recipe|microphone|reference|training|validation)=(\w+)", said))
    assert words["recipe"] == name
    assert words["microphone"] == benchmark.microphones[0]
    assert words["reference"] == benchmark.references[0]
    asked = re.search(r"\bsplits=\(([^)]*)\)", said)
    assert asked is not None
    named = {*asked[1].split(), *(words[key] for key in ("training", "validation") if key in words)}
    assert named <= set(benchmark.splits)
    page = (folder / "RESULTS.md").read_text()
    assert all(f"`{word}`" in page for word in (*benchmark.microphones, *benchmark.references))
    assert "## Published" in page and "## Ours" in page
