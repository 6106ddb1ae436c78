"""recipes/default_model/noises.py: what is held out is heard nowhere else."""

import sys
from pathlib import Path

import pytest
from scripts import load_script

from diarize.corpus import Corpus
from diarize.manifest import read_manifest, write_manifest

RECIPES = Path(__file__).parents[1] / "recipes"


def run(monkeypatch: pytest.MonkeyPatch, script: Path, *arguments: object) -> int:
    """The exit status of a script."""
    monkeypatch.setattr(sys, "argv", [script.name, *map(str, arguments)])
    status: int = load_script(script).main()
    return status


def heard(manifest: Path) -> set[Path]:
    """The recordings of a manifest."""
    return {session.audio.resolve() for session in read_manifest(manifest)}


def test_noises_and_rooms_are_split_and_others_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    corpus, output = tmp_path / "corpus", tmp_path / "noises"
    assert run(monkeypatch, RECIPES / "mini" / "toy.py", corpus) == 0
    write_manifest(tmp_path / "rir.jsonl", read_manifest(corpus / "rir.jsonl")[:4])
    script = RECIPES / "default_model" / "noises.py"
    asked = (corpus, output, "--rir", tmp_path / "rir.jsonl", "--toy")
    assert run(monkeypatch, script, *asked) == 0
    kept = read_manifest(output / "noise.jsonl")
    recorded = heard(corpus / "noise_train.jsonl")
    of_kept, of_held = (heard(output / f"{n}.jsonl") & recorded for n in ("noise", "noise_heldout"))
    assert (len(of_kept), len(of_held), of_kept & of_held) == (2, 1, set())
    made = [session for session in kept if session.audio.resolve() not in recorded]
    assert {str(s.extra["source"]) for s in made} == {
        f"synthetic-{kind}" for kind in ("babble", "music", "coloured", "events", "remix")
    }
    power = Corpus.from_manifest(output / "noise.jsonl", spoken=False).power
    assert (power > 1e-6).all()
    trained, left = (read_manifest(output / f"{n}.jsonl") for n in ("rir", "rir_heldout"))
    assert [room.audio.name for room in trained + left] == [f"room_{n}.wav" for n in range(4)]
    assert len(left) == 1
    capsys.readouterr()
    assert run(monkeypatch, script, *asked) == 0
    assert "is there, and left as it is" in capsys.readouterr().out


def test_a_corpus_without_noises_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    script = RECIPES / "default_model" / "noises.py"
    assert run(monkeypatch, script, tmp_path, tmp_path / "out", "--rir", tmp_path / "r.jsonl") == 1
    assert "noises.py: " in (told := capsys.readouterr().err) and "noise_train.jsonl" in told
    assert not (tmp_path / "out").exists()
