"""``diarize simulate`` and its companions, as a shell runs them."""

import json
from pathlib import Path

import pytest
from tones import write_corpus

from diarize.cli import main
from diarize.formats.rttm import write_rttm
from diarize.manifest import read_manifest
from diarize.turns import Turn


@pytest.fixture
def conversation(tmp_path: Path) -> Path:
    """Two who take turns for a minute, now and then early."""
    time, turns = 0.0, []
    for number in range(20):
        turns.append(Turn(time, time + 2.0, "AB"[number % 2]))
        time += 1.5 if number % 4 == 0 else 2.8
    write_rttm(tmp_path / "real.rttm", {"real": turns})
    return tmp_path / "real.rttm"


def test_what_was_fitted_is_simulated_and_compared(
    tmp_path: Path,
    conversation: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fit = tmp_path / "fit.json"
    assert main(["simulate", "fit", str(conversation), "-o", str(fit)]) == 0
    assert capsys.readouterr().out == f"{fit}\n"
    settings = [f"turn_taking={fit}", "independent_share=0", "duration=60"]
    words = ["simulate", str(write_corpus(tmp_path / "speech", 3, 3, 3.0)), "--num-sessions", "4"]
    words += [word for setting in settings for word in ("--config", setting)]
    assert main([*words, "--output", str(tmp_path / "made")]) == 0
    manifest = capsys.readouterr().out.strip()
    assert all(session.num_speakers == 2 for session in read_manifest(manifest))
    compared = ["simulate", "gap", str(conversation), manifest, "--join", "0"]
    assert main([*compared, "--picture", str(tmp_path / "gap.png")]) == 0
    assert capsys.readouterr().out.lstrip().startswith("real: mean   median")
    assert (tmp_path / "gap.png").stat().st_size > 5000
    assert main([*compared, "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["rows"]}
    assert rows["turn"]["distance"] < 0.2 and rows["gap"]["distance"] < 0.2
    assert rows["speakers"]["distance"] == 0.0


def test_references_of_several_places_are_fitted_together(
    tmp_path: Path, conversation: Path, capsys: pytest.CaptureFixture
) -> None:
    fit = tmp_path / "fit.json"
    assert main(["simulate", "fit", str(conversation), str(tmp_path), "-o", str(fit)]) == 0
    assert json.loads(fit.read_text())["sessions"] == 2


def test_references_without_turns_leave_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "silent.rttm").write_text("")
    words = ["simulate", "fit", str(tmp_path / "silent.rttm"), "-o", str(tmp_path / "fit.json")]
    assert main(words) == 1
    assert "diarize simulate fit: the references have 0 turns in 0 sessions, but" in (
        capsys.readouterr().err
    )
    assert not (tmp_path / "fit.json").exists()


def test_rooms_are_written_with_their_manifest(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("pyroomacoustics")
    words = ["simulate", "rooms", "--num-rooms", "1", "--output", str(tmp_path / "rooms")]
    assert main([*words, "--config", "reverberation=[0.15,0.16]", "--config", "positions=2"]) == 0
    (room,) = read_manifest(capsys.readouterr().out.strip())
    assert room.audio == tmp_path / "rooms" / "room-0-0000.flac"
