"""``diarize manifest from-...`` and ``to-...``: what goes where, and what is imported for it."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from diarize.cli import main
from diarize.formats.rttm import write_rttm
from diarize.manifest import Session, read_manifest, reference_turns, write_manifest
from diarize.turns import Turn

TALK = [Turn(0.5, 2.0, "ann"), Turn(2.0, 3.0, "bob")]


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A session of 4 s with its reference."""
    soundfile.write(tmp_path / "talk.wav", np.full(32000, 0.1), 8000)
    write_rttm(tmp_path / "talk.rttm", {"talk": TALK})
    session = Session("talk", tmp_path / "talk.wav", 0.0, 4.0, tmp_path / "talk.rttm")
    write_manifest(tmp_path / "m.jsonl", [session])
    return tmp_path / "m.jsonl"


def test_to_kaldi_and_from_kaldi(manifest: Path, capsys: pytest.CaptureFixture) -> None:
    folder = manifest.parent / "data"
    assert main(["manifest", "to-kaldi", str(manifest), str(folder)]) == 0
    written = capsys.readouterr().out.splitlines()
    assert sorted(written) == sorted(str(path) for path in folder.iterdir())
    assert main(["manifest", "from-kaldi", str(folder)]) == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["session_id"], line["rttm_filepath"]) == ("talk", str(folder / "rttm"))
    output = manifest.parent / "utterances.jsonl"
    assert (
        main(["manifest", "from-kaldi", str(folder), "--utterances", "--output", str(output)]) == 0
    )
    told = [(s.speaker, s.offset, s.duration) for s in read_manifest(output)]
    assert told == [("ann", 0.5, 1.5), ("bob", 2.0, 1.0)]
    assert main(["manifest", "to-kaldi", str(manifest), str(folder)]) == 1
    assert capsys.readouterr().err.startswith(f"diarize manifest to-kaldi: {folder}: holds wav.scp")


def test_to_lhotse_and_from_lhotse(manifest: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("lhotse")
    cuts, ref = manifest.parent / "cuts.jsonl.gz", manifest.parent / "ref"
    assert main(["manifest", "to-lhotse", str(manifest), str(cuts)]) == 0
    assert capsys.readouterr().out == f"{cuts}\n"
    output = manifest.parent / "back.jsonl"
    asked = ["manifest", "from-lhotse", str(cuts), "--output", str(output)]
    assert main([*asked, "--write-rttm", str(ref)]) == 0
    (session,) = read_manifest(output)
    assert session.rttm == ref / "talk.rttm" and reference_turns(session) == TALK
    assert main([*asked, "--utterances"]) == 0
    assert [s.speaker for s in read_manifest(output)] == ["ann", "bob"]


def test_from_database(manifest: Path, capsys: pytest.CaptureFixture) -> None:
    pytest.importorskip("pyannote.database")
    yml = manifest.parent / "database.yml"
    (manifest.parent / "talks.lst").write_text("talk\n")
    yml.write_text(
        "Databases: {Talks: '{uri}.wav'}\n"
        "Protocols: {Talks: {SpeakerDiarization: {P: {test: "
        "{uri: talks.lst, annotation: talk.rttm}}}}}\n"
    )
    named = ["--protocol", "Talks.SpeakerDiarization.P", "--subset", "test"]
    assert main(["manifest", "from-database", str(yml), *named]) == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["audio_filepath"], line["num_speakers"]) == (str(manifest.parent / "talk.wav"), 2)
    assert main(["manifest", "from-database", str(yml)]) == 1
    captured = capsys.readouterr()
    assert captured.out == "" and "Talks.SpeakerDiarization.P (test)" in captured.err


def test_references_are_written_or_utterances_taken(capsys: pytest.CaptureFixture) -> None:
    for verb in ("from-kaldi", "from-lhotse"):
        with pytest.raises(SystemExit) as exit_:
            main(["manifest", verb, "x", "--utterances", "--write-rttm", "ref"])
        assert exit_.value.code == 2
        assert "not allowed with argument" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "package", "extra"),
    [
        (["from-lhotse", "cuts.jsonl"], "lhotse", "lhotse"),
        (["to-lhotse", "m.jsonl", "cuts.jsonl"], "lhotse", "lhotse"),
        (["from-database", "database.yml"], "pyannote", "database"),
    ],
)
def test_a_missing_extra_is_named(
    manifest: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    verb: list[str],
    package: str,
    extra: str,
) -> None:
    monkeypatch.chdir(manifest.parent)
    for name in ("database.yml", "cuts.jsonl"):
        Path(name).touch()
    hidden = package if package == "lhotse" else "pyannote.database.registry"
    monkeypatch.setitem(sys.modules, hidden, None)
    assert main(["manifest", *verb]) == 1
    expected = f"manifest {verb[0]} needs {package}, but it is not installed. Install it with: pip "
    assert expected + f"install 'diarize[{extra}]'." in capsys.readouterr().err
