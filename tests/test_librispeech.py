"""LibriSpeech as it is unpacked, and the recipes that mix conversations from it."""

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from miniatures import RECIPES, run_recipe, write
from scripts import load_script
from tones import PITCHES, tone

from diarize.errors import CorpusError
from diarize.formats.rttm import read_rttm
from diarize.librispeech import from_librispeech, prepare_utterances
from diarize.manifest import Session, read_manifest, write_manifest

SIMULATED = ("mini_librispeech", "librispeech_sim")


def build(folder: Path, part: str, speakers: dict[str, float], utterances: int = 3) -> Path:
    """A part with a chapter for each speaker, who is a tone; returns the folder of parts."""
    for speaker, pitch in speakers.items():
        chapter = folder / "LibriSpeech" / part / speaker / "1240"
        chapter.mkdir(parents=True, exist_ok=True)
        text = ""
        for number in range(utterances):
            name = f"{speaker}-1240-{number:04d}"
            wave = tone(pitch, 1.0 + 0.1 * number)
            soundfile.write(chapter / f"{name}.flac", wave, 16000)
            text += f"{name} CHAPTER {number}\n"
        write(chapter / f"{speaker}-1240.trans.txt", text)
    return folder / "LibriSpeech"


TRAIN = {"103": PITCHES[0], "1034": PITCHES[1], "1040": PITCHES[2]}
OTHERS = {"84": PITCHES[3], "174": PITCHES[4]}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Parts of both recipes."""
    folder = tmp_path_factory.mktemp("corpus")
    for part in ("train-clean-5", "train-clean-100"):
        build(folder, part, TRAIN)
    for part, first in (("dev-clean-2", 0), ("dev-clean", 1000), ("test-clean", 2000)):
        build(folder, part, {str(int(name) + first): pitch for name, pitch in OTHERS.items()})
    return folder


def test_every_utterance_has_its_speaker(corpus: Path) -> None:
    lines = from_librispeech(corpus, "train-clean-5")
    assert [line.session_id for line in lines][:4] == [
        "103-1240-0000", "103-1240-0001", "103-1240-0002", "1034-1240-0000",
    ]  # fmt: skip
    assert {line.speaker for line in lines} == set(TRAIN)
    assert [line.duration for line in lines] == [1.0, 1.1, 1.2] * 3
    assert lines[1].extra == {"text": "CHAPTER 1"}
    assert from_librispeech(corpus / "LibriSpeech", "train-clean-5") == lines


def test_lhotse_has_the_same(corpus: Path) -> None:
    recipes = pytest.importorskip("lhotse.recipes.librispeech")
    theirs = recipes.prepare_librispeech(corpus / "LibriSpeech", dataset_parts=["dev-clean-2"])
    theirs = theirs["dev-clean-2"]["supervisions"]
    assert sorted((s.id, s.speaker, s.duration, s.text) for s in theirs) == [
        (line.session_id, line.speaker, line.duration, line.extra["text"])
        for line in from_librispeech(corpus, "dev-clean-2")
    ]


def test_a_part_in_part_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="has no folder 'dev-clean-2', but .*openslr.org/31/"):
        from_librispeech(tmp_path, "dev-clean-2")
    with pytest.raises(CorpusError, match="has no folder 'dev-clean', but .*openslr.org/12/"):
        from_librispeech(tmp_path, "dev-clean")
    (tmp_path / "dev-clean").mkdir()
    with pytest.raises(CorpusError, match="name 0 utterances, but there are 0 recordings. Is"):
        from_librispeech(tmp_path, "dev-clean")
    chapter = build(tmp_path, "dev-clean-2", OTHERS) / "dev-clean-2" / "84" / "1240"
    (chapter / "84-1240-0001.flac").unlink()
    message = "name 6 utterances, but there are 5 recordings; they differ by 84-1240-0001. Is the"
    with pytest.raises(CorpusError, match=message):
        from_librispeech(tmp_path, "dev-clean-2")
    write(chapter / "84-1240.trans.txt", "84-1240-0000 A\n84_1240_2 B\n")
    with pytest.raises(CorpusError, match=r"trans.txt:2: begins with '84_1240_2', but an id is"):
        from_librispeech(tmp_path, "dev-clean-2")


@pytest.mark.parametrize("recipe", SIMULATED)
def test_lists_are_written(recipe: str, corpus: Path, tmp_path: Path) -> None:
    script = load_script(RECIPES / recipe / "prepare.py")
    assert prepare_utterances(script.LISTS, [str(corpus), str(tmp_path / "data")]) == 0
    for name, parts in script.LISTS.items():
        lines = read_manifest(tmp_path / "data" / f"{name}.jsonl")
        expected = [line.session_id for part in parts for line in from_librispeech(corpus, part)]
        assert [line.session_id for line in lines] == expected


def test_nobody_is_in_two_lists(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    lists = {"train": ["train-clean-5"], "test": ["dev-clean-2"]}
    arguments = [str(corpus), str(tmp_path / "data"), "--test", "dev-clean-2", "train-clean-100"]
    assert prepare_utterances(lists, arguments) == 1
    said = capsys.readouterr().err
    assert "103-1240-0000.flac: speaker '103' is in test, but in train as well. Choose" in said
    assert not (tmp_path / "data").exists()


def test_a_manifest_stands_in_for_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "all.wav", tone(PITCHES[0], 9.0), 16000)
    lines = [
        Session(
            f"x{number}", tmp_path / "all.wav", float(number), 0.5, speaker="ls103",
            extra={"utterance": name},
        )
        for number, name in enumerate(["103-1240-0001", "103-7-0000", "103-1240-0000", "84-1-0000"])
    ]  # fmt: skip
    lines.append(Session("other", tmp_path / "all.wav", 5.0, 0.5, speaker="x"))
    write_manifest(tmp_path / "m.jsonl", lines)
    script = load_script(RECIPES / "mini_librispeech" / "standin.py")
    place = tmp_path / "LibriSpeech" / "train-clean-5"
    arguments = ["standin.py", str(tmp_path / "m.jsonl"), str(place), "--least", "2"]
    monkeypatch.setattr("sys.argv", arguments)
    assert script.main() == 0
    found = from_librispeech(tmp_path, "train-clean-5")
    assert [line.session_id for line in found] == ["103-1240-0000", "103-1240-0001", "103-7-0000"]
    assert {(line.speaker, line.duration) for line in found} == {("103", 0.5)}


# The recipes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--split", "test"), "unknown option --split; see recipes/simulated.sh"),
        (("--corpus",), "--corpus has no value"),
        ((), "no --corpus is given, but stage 0 reads it"),
    ],
)
@pytest.mark.parametrize("name", SIMULATED)
def test_what_the_shell_refuses_is_usage(name: str, options: tuple[str, ...], message: str) -> None:
    done = run_recipe(name, *options)
    assert (done.returncode, message in done.stderr) == (2, True)


def test_a_fault_of_the_corpus_ends_the_recipe(tmp_path: Path) -> None:
    done = run_recipe(
        "mini_librispeech", "--corpus", str(tmp_path), "--output", str(tmp_path / "exp")
    )
    assert done.returncode == 1
    assert f"prepare.py: {tmp_path}: has no folder 'train-clean-5', but" in done.stderr
    assert not (tmp_path / "exp").exists()


@pytest.mark.parametrize("name", SIMULATED)
def test_a_recipe_mixes_and_trains_on_its_own_lists(name: str) -> None:
    """Whoever is scored is in none of the lists that are learned from."""
    said = (RECIPES / name / "run.sh").read_text()
    sets = re.search(r"sets=\(([^)]*)\)", said)
    tests = re.search(r"tests=\(([^)]*)\)", said)
    assert sets is not None and tests is not None
    mixed = {m[0]: m[1:] for m in (word.split(":") for word in sets[1].split())}
    lists = load_script(RECIPES / name / "prepare.py").LISTS
    assert {of for of, *_ in mixed.values()} <= set(lists)
    seeds = [seed for *_, seed in mixed.values()]
    assert len(set(seeds)) == len(seeds)
    for test in tests[1].split():
        assert mixed[test][0] == "test"
        assert f"data/{test}/" not in said
    assert all(
        path.exists() for path in map((RECIPES.parent).joinpath, re.findall(r"conf/\w+.yaml", said))
    )


@pytest.mark.slow
def test_sessions_are_mixed_of_two_speakers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part, speakers in (("train-clean-5", TRAIN), ("dev-clean-2", OTHERS)):
        corpus = build(tmp_path, part, speakers)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    noise = np.random.default_rng(0).normal(0.0, 0.05, 32000)
    (tmp_path / "noises").mkdir()
    soundfile.write(tmp_path / "noises" / "n.wav", noise, 16000)
    room = np.zeros((800, 2))
    room[[0, 400], :] = [[1.0, 0.9], [0.3, 0.2]]
    soundfile.write(tmp_path / "room.flac", room, 16000)
    write_manifest(tmp_path / "rooms.jsonl", [Session("r", tmp_path / "room.flac")])
    output = tmp_path / "exp"
    given = ("--noise", str(tmp_path / "noises"), "--rir", str(tmp_path / "rooms.jsonl"))
    where = ("--corpus", str(corpus), "--output", str(output), "--stop_stage", "1")
    done = run_recipe("mini_librispeech", "--toy", *where, *given)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    for name, voices in (("train_2spk", set(TRAIN)), ("test_2spk", set(OTHERS))):
        sessions = read_manifest(output / "data" / name / "manifest.jsonl")
        assert len(sessions) == 2
        for session in sessions:
            assert session.rttm is not None
            turns = read_rttm(session.rttm)[session.session_id]
            assert len({turn.speaker for turn in turns}) == 2
            assert {turn.speaker for turn in turns} <= voices


STUB = """() {
  echo "$*" >> "$DIARIZE_LOG"
  while [ $# -gt 1 ]; do
    if [ "$1" = --output ]; then
      mkdir -p "$2/checkpoints"; touch "$2/checkpoints/last.ckpt"; echo "TOTAL " > "$2.txt"
    fi
    shift
  done
}"""
"""A function of the shell in place of diarize, which notes what it was asked."""


def asked(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> list[str]:
    """What a recipe asks of diarize, without folders."""
    monkeypatch.setenv("BASH_FUNC_diarize%%", STUB)
    monkeypatch.setenv("DIARIZE_LOG", str(tmp_path / "log"))
    done = run_recipe(name, "--stage", "1", "--output", str(tmp_path / "exp"), *options)
    assert done.returncode == 0, done.stderr
    return (tmp_path / "log").read_text().replace(f"{tmp_path}/", "").splitlines()


def test_mini_librispeech_has_the_counts_of_those_who_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed, other, *trained, infer, score = asked("mini_librispeech", tmp_path, monkeypatch)
    assert mixed == (
        "simulate exp/data/train.jsonl --config conf/simulate.yaml --config num_speakers=[0,1] "
        "--num-sessions 500 --seed 0 --output exp/data/train_2spk"
    )
    assert other.startswith("simulate exp/data/test.jsonl ")
    assert other.endswith("--num-sessions 500 --seed 1 --output exp/data/test_2spk")
    assert trained == [
        "train conf/small.yaml conf/voices.yaml data.utterances=exp/data/train.jsonl "
        "trainer.max_steps=700 --output exp/voices --resume",
        "train conf/small.yaml conf/easy.yaml data.utterances=exp/data/train.jsonl "
        "init=exp/voices trainer.max_steps=300 --output exp/easy --resume",
        "train conf/small.yaml conf/long.yaml data.sessions=exp/data/train_2spk/manifest.jsonl "
        "init=exp/easy trainer.max_steps=4600 --output exp/mixtures --resume",
    ]
    assert infer == (
        "infer --manifest exp/data/test_2spk/manifest.jsonl --model exp/mixtures --window 120 "
        "--output exp/sys/test_2spk"
    )
    assert "--condition full,fair --per-session --format text,json " in score


def test_librispeech_sim_scores_two_to_four(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = asked("librispeech_sim", tmp_path, monkeypatch, "--brief", "--precision", "bf16-mixed")
    mixed = [line for line in lines if line.startswith("simulate ")]
    assert [
        re.findall(r"num_speakers=\S+|--num-sessions \d+|--seed \d", line) for line in mixed
    ] == [
        ["num_speakers=[0,1]", "--num-sessions 30", "--seed 1"],
        ["num_speakers=[0,1]", "--num-sessions 30", "--seed 2"],
        ["num_speakers=[0,0,1]", "--num-sessions 30", "--seed 3"],
        ["num_speakers=[0,0,0,1]", "--num-sessions 30", "--seed 4"],
    ]
    trained = [line for line in lines if line.startswith("train ")]
    assert [line.split("--output ")[1] for line in trained] == [
        f"exp/{step} --resume" for step in ("voices", "easy", "short", "long")
    ]
    assert all("trainer.max_steps=90 trainer.precision=bf16-mixed" in line for line in trained)
    assert all("data.validation=exp/data/dev_2spk/manifest.jsonl" in line for line in trained[2:])
    inferred = [line for line in lines if line.startswith("infer ")]
    assert [line.split("--output ")[1] for line in inferred] == [
        f"exp/sys/test_{count}spk" for count in (2, 3, 4)
    ]
    assert sum(line.startswith("score ") for line in lines) == 3
