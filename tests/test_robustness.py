"""recipes/default_model: what its robustness sets hold, and what its table says."""

import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from scripts import load_script

from diarize.audio import SAMPLE_RATE, read_audio
from diarize.cli import main as diarize
from diarize.formats.rttm import write_rttm
from diarize.manifest import Session, read_manifest, reference_turns, write_manifest
from diarize.turns import Turn

RECIPE = Path(__file__).parents[1] / "recipes" / "default_model"
SECONDS = 12
SPOILED = ("telephone", "resampled_8k", "mp3", "room", "quiet", "loud")
SILENT = ("silence", "noise", "music")


@pytest.fixture(scope="module")
def robustness() -> ModuleType:
    """The script as a module, beside which noises.py lies."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(RECIPE)
        return load_script(RECIPE / "robustness.py")


def speech(rng: np.random.Generator) -> np.ndarray:
    """Bursts of noise of 0.2 s at 0.05, and between them what is next to nothing, (sample,)."""
    loud = np.repeat(rng.random(SECONDS * 5) < 0.5, SAMPLE_RATE // 5)
    return rng.normal(0.0, 0.05, loud.size) * np.where(loud, 1.0, 1e-3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sessions of bursts, noises of which one is a cafe, and a room."""
    folder, rng = tmp_path_factory.mktemp("corpus"), np.random.default_rng(0)
    sessions = []
    for name in ("a", "b"):
        soundfile.write(folder / f"{name}.wav", speech(rng), SAMPLE_RATE)
        write_rttm(folder / f"{name}.rttm", {name: [Turn(1.0, 2.0, "anna")]})
        audio, rttm = folder / f"{name}.wav", folder / f"{name}.rttm"
        sessions.append(Session(name, audio, duration=SECONDS, rttm=rttm, num_speakers=1))
    write_manifest(folder / "sessions.jsonl", sessions)
    soundfile.write(folder / "noise.wav", rng.normal(0.0, 0.01, 3 * SAMPLE_RATE), SAMPLE_RATE)
    noises = [
        Session(f"n{offset}", folder / "noise.wav", offset, 1.0, extra={"noise": name})
        for offset, name in enumerate(("rain", "cafe", "road"))
    ]
    write_manifest(folder / "noise.jsonl", noises)
    response = rng.normal(0.0, 0.1, (SAMPLE_RATE // 4, 1)) * np.logspace(0, -3, 4000)[:, None]
    response[30] = 1.0
    soundfile.write(folder / "room.wav", response, SAMPLE_RATE, "FLOAT")
    write_manifest(folder / "rir.jsonl", [Session("room", folder / "room.wav")])
    return folder


def make(robustness: ModuleType, corpus: Path, output: Path, *options: str) -> int:
    """The exit status of robustness.py."""
    arguments = [corpus / "sessions.jsonl", output, "--noise", corpus / "noise.jsonl"]
    arguments += ["--rir", corpus / "rir.jsonl", "--seconds", "2", *options]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["robustness.py", *map(str, arguments)])
        status: int = robustness.main()
    return status


@pytest.fixture(scope="module")
def sets(robustness: ModuleType, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All sets of the corpus."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(corpus / "cache"))
        output = tmp_path_factory.mktemp("sets")
        assert make(robustness, corpus, output) == 0
    return output


def waves(sets: Path, name: str) -> list[np.ndarray]:
    """What is heard in each session of a set."""
    return [
        read_audio(session.audio, session.offset, session.duration)
        for session in read_manifest(sets / name / "manifest.jsonl")
    ]


def level(wave: np.ndarray) -> float:
    """Root mean square, dB below full scale."""
    return 20 * float(np.log10(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))))


@pytest.mark.parametrize("name", ["robustness.sh", "evaluate.sh"])
def test_the_shell_can_read_the_scripts(name: str) -> None:
    subprocess.run(["bash", "-n", RECIPE / name], check=True)


@pytest.mark.parametrize("name", SILENT)
def test_nobody_speaks_where_there_is_no_speech(sets: Path, name: str) -> None:
    sessions = read_manifest(sets / name / "manifest.jsonl")
    assert {session.num_speakers for session in sessions} == {0}
    assert [reference_turns(session) for session in sessions] == [[]] * len(sessions)
    assert {wave.size for wave in waves(sets, name)} == {2 * SAMPLE_RATE}


def test_silence_is_digital_zero_and_faint_noise(sets: Path) -> None:
    zero, noise = waves(sets, "silence")[::2], waves(sets, "silence")[1::2]
    assert not np.any(zero)
    assert [level(wave) for wave in noise[1:]] == pytest.approx([-80, -70], abs=0.5)


def test_noise_is_as_loud_as_speech_and_without_people(sets: Path, corpus: Path) -> None:
    (heard,) = waves(sets, "noise")
    pieces = {name: read_audio(corpus / "noise.wav", at, 1.0) for at, name in enumerate("rcs")}
    assert level(heard) == pytest.approx(-26, abs=0.5)
    alike = {
        name: max(abs(np.corrcoef(heard[at:][:8000], piece[:8000])[0, 1]) for at in (0, 16000))
        for name, piece in pieces.items()
    }
    assert alike["r"] > 0.9 and alike["s"] > 0.9 and alike["c"] < 0.1


def test_music_differs_from_session_to_session(sets: Path) -> None:
    heard = waves(sets, "music")
    assert len(heard) == 10
    assert all(level(wave) == pytest.approx(-26, abs=1.5) for wave in heard)
    assert abs(np.corrcoef(heard)[~np.eye(10, dtype=bool)]).max() < 0.5


def test_plain_sessions_are_the_same_files(sets: Path, corpus: Path) -> None:
    plain = read_manifest(sets / "plain" / "manifest.jsonl")
    assert [session.audio.resolve() for session in plain] == [corpus / "a.wav", corpus / "b.wav"]


@pytest.mark.parametrize("name", SPOILED)
def test_spoiled_sessions_stay_in_time_with_their_reference(sets: Path, name: str) -> None:
    for session, plain in zip(
        read_manifest(sets / name / "manifest.jsonl"),
        read_manifest(sets / "plain" / "manifest.jsonl"),
        strict=True,
    ):
        assert reference_turns(session) == reference_turns(plain)
        assert session.duration == pytest.approx(plain.duration, abs=0.001)
        here, there = read_audio(session.audio), read_audio(plain.audio)
        size = 1 << 18  # longer than both
        spectra = np.fft.rfft(here, size) * np.conj(np.fft.rfft(there, size))
        lag = int(np.argmax(np.fft.irfft(spectra, size)))
        assert min(lag, size - lag) <= 4


def test_a_telephone_keeps_its_band_alone(sets: Path) -> None:
    session = read_manifest(sets / "telephone" / "manifest.jsonl")[0]
    info = soundfile.info(session.audio)
    assert (info.samplerate, info.subtype) == (8000, "ULAW")
    power = np.abs(np.fft.rfft(soundfile.read(session.audio)[0])) ** 2
    hertz = np.linspace(0, 4000, power.size)
    outside = power[(hertz < 280) | (hertz > 3450)].mean()
    assert outside < 1e-2 * power[(hertz > 320) & (hertz < 3380)].mean()


def test_mp3_is_of_32_kbit(sets: Path) -> None:
    for session in read_manifest(sets / "mp3" / "manifest.jsonl"):
        assert soundfile.info(session.audio).format == "MP3"
        assert session.audio.stat().st_size * 8 / SECONDS == pytest.approx(32000, rel=0.03)


def test_levels_are_as_named(sets: Path) -> None:
    plain = waves(sets, "plain")
    for heard, before in zip(waves(sets, "quiet"), plain, strict=True):
        assert level(heard) == pytest.approx(level(before) - 30, abs=0.1)
    for heard, before in zip(waves(sets, "loud"), plain, strict=True):
        clipped = np.mean(np.abs(heard) > 0.999)
        assert clipped == pytest.approx(np.mean(abs(before) > abs(before).max() / 3.981), rel=0.05)
    for heard, before in zip(waves(sets, "room"), plain, strict=True):
        assert level(heard) == pytest.approx(level(before), abs=0.1)
        assert np.corrcoef(heard, before)[0, 1] < 0.9


def test_what_is_there_is_not_made_again(
    robustness: ModuleType, corpus: Path, sets: Path, capsys: pytest.CaptureFixture
) -> None:
    manifest = sets / "quiet" / "manifest.jsonl"
    kept, missing = (session.audio for session in read_manifest(manifest))
    before = kept.stat().st_mtime_ns
    manifest.unlink()
    missing.unlink()
    assert make(robustness, corpus, sets) == 0
    assert capsys.readouterr().err.count("making") == 1
    assert missing.exists() and kept.stat().st_mtime_ns == before
    assert make(robustness, corpus, sets, "--first", "1") == 1
    assert "the sets here were made with first=40, not 1" in capsys.readouterr().err


def test_sessions_without_a_reference_are_refused(
    robustness: ModuleType, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    write_manifest(tmp_path / "sessions.jsonl", [Session("a", corpus / "a.wav")])
    for name in ("noise.jsonl", "rir.jsonl"):
        write_manifest(tmp_path / name, read_manifest(corpus / name))
    assert make(robustness, tmp_path, tmp_path / "sets") == 1
    assert "sessions.jsonl:1: has no RTTM, but" in capsys.readouterr().err


def table(monkeypatch: pytest.MonkeyPatch, *paths: Path) -> int:
    """The exit status of table.py."""
    monkeypatch.setattr(sys, "argv", ["table.py", *map(str, paths)])
    status: int = load_script(RECIPE / "table.py").main()
    return status


def scored(folder: Path, name: str, turns: dict[str, list[list[Turn]]], condition: str) -> Path:
    """Scores of sessions of 60 s; of each, the turns in truth and by a system."""
    sessions = []
    (folder / name).mkdir()
    for session_id, (truth, found) in turns.items():
        rttm = folder / f"{session_id}.rttm"
        write_rttm(rttm, {session_id: truth})
        write_rttm(folder / name / rttm.name, {session_id: found})
        sessions.append(Session(session_id, folder / "none.wav", duration=60.0, rttm=rttm))
    write_manifest(folder / f"{name}.jsonl", sessions)
    arguments = ["--condition", condition, "--format", "json,text", "--output"]
    sides = [str(folder / f"{name}.jsonl"), str(folder / name)]
    assert diarize(["score", *sides, *arguments, str(folder / "scores" / name)]) == 0
    return folder / "scores" / f"{name}.json"


def test_a_table_has_a_row_for_each_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "scores").mkdir()
    talk = {
        "one": [[Turn(10, 20, "a"), Turn(20, 30, "b")], [Turn(10, 21, "x")]],
        "two": [[Turn(10, 30, "a")], [Turn(10, 30, "x")]],
    }
    nothing = {"void": [[], [Turn(0, 3, "x"), Turn(5, 8, "y")]]}
    paths = [scored(tmp_path, "talk", talk, "full,fair")]
    paths += [scored(tmp_path, "silence.1.04s", nothing, "full,fair")]
    capsys.readouterr()
    assert table(monkeypatch, *paths) == 0
    head, rule, first, second = capsys.readouterr().out.splitlines()
    cells = [cell.strip() for cell in first.strip("|").split("|")]
    # 40 s in truth, of which 9 are missed and 1 is confused; all of it in the first session.
    assert cells[:3] == ["talk", "2", "0.03"]
    assert cells[3].startswith("25.00 (0.0-50.0)")
    assert cells[5:] == ["22.50", "0.00", "2.50", "0.0", "50.0", "0.50"]
    cells = [cell.strip() for cell in second.strip("|").split("|")]
    assert cells == ["silence.1.04s", "1", "0.02", "-", "-", "-", "-", "-", "360.0", "0.0", "2.00"]
    assert head.count("|") == rule.count("|") == second.count("|")


def test_a_table_needs_both_conditions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "scores").mkdir()
    path = scored(tmp_path, "talk", {"one": [[Turn(1, 2, "a")], [Turn(1, 2, "x")]]}, "full")
    assert table(monkeypatch, path) == 1
    assert "talk: was scored under full, but the table has full and fair" in capsys.readouterr().err
    path.write_text(json.dumps({"format": "other"}))
    assert table(monkeypatch, path) == 1
    assert "has format 'other'" in capsys.readouterr().err
