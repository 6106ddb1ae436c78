"""Sessions on disk are those made on the fly, kept as they are, and of one simulation."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tones import SAMPLE_RATE, write_corpus, write_noise

from diarize.cli import main
from diarize.corpus import Corpus
from diarize.errors import AudioError, ConfigError
from diarize.formats.rttm import read_rttm
from diarize.manifest import check_manifest, read_manifest
from diarize.simulate import SimulationConfig, Simulator, write_sessions

Make = Callable[..., Simulator]

SHORT = {"duration": 6.0, "silence": 0.5, "level_spread": 0.0}


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Four tones, each with utterances of 0.4, 0.5 and 0.6 s."""
    folder = tmp_path_factory.mktemp("speech")
    return Corpus.from_manifest(write_corpus(folder, 4, 3, 0.4), folder / "cache")


@pytest.fixture
def simulator(speech: Corpus) -> Make:
    """``simulator(seed=0, speech=..., noises=None, rooms=None, **settings)``."""

    def make(seed: int = 0, speech=speech, noises=None, rooms=None, **settings) -> Simulator:
        config = SimulationConfig(**({"min_voice": 0.5} | settings))
        return Simulator(config, speech, noises, rooms, seed)

    return make


def test_sessions_on_disk_are_those_made_on_the_fly(simulator: Make, tmp_path: Path) -> None:
    maker = simulator(seed=5, **SHORT, num_speakers=[0, 1, 1])
    manifest = write_sessions(maker, 3, tmp_path / "out", show=False)
    assert manifest == tmp_path / "out" / "manifest.jsonl"
    assert check_manifest(manifest) == []
    sessions = read_manifest(manifest)
    assert [s.session_id for s in sessions] == [f"sim-5-00000{index}" for index in range(3)]
    for index, session in enumerate(sessions):
        waveform, turns = maker.session(index)
        stored, sample_rate = soundfile.read(session.audio, dtype="float32")
        assert sample_rate == SAMPLE_RATE and soundfile.info(session.audio).subtype == "PCM_16"
        assert stored == pytest.approx(waveform, abs=2 / 32768)
        assert session.duration == waveform.size / SAMPLE_RATE
        assert session.num_speakers == len({turn.speaker for turn in turns})
        written = read_rttm(session.rttm)[session.session_id]
        assert [t.speaker for t in written] == [t.speaker for t in turns]
        for one, other in zip(written, turns, strict=True):
            assert (one.start, one.end) == pytest.approx((other.start, other.end), abs=0.0011)


def test_what_is_missing_is_written_again_and_the_rest_kept(
    simulator: Make, tmp_path: Path
) -> None:
    maker = simulator(**SHORT)
    write_sessions(maker, 2, tmp_path, show=False)
    audio, rttm = sorted((tmp_path / "audio").iterdir()), sorted((tmp_path / "rttm").iterdir())
    whole = [path.read_bytes() for path in (*audio, *rttm)]
    stamp = audio[1].stat().st_mtime_ns
    audio[0].unlink()
    (tmp_path / "manifest.jsonl").unlink()
    write_sessions(maker, 2, tmp_path, show=False)
    assert [path.read_bytes() for path in (*audio, *rttm)] == whole
    assert audio[1].stat().st_mtime_ns == stamp
    write_sessions(maker, 3, tmp_path, show=False)
    assert len(read_manifest(tmp_path / "manifest.jsonl")) == 3


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_interrupted_writing_leaves_no_half_session(
    simulator: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    def break_off(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[:1000])
        raise fault

    told = KeyboardInterrupt if isinstance(fault, KeyboardInterrupt) else AudioError
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", break_off)
        with pytest.raises(told) as caught:
            write_sessions(simulator(**SHORT), 1, tmp_path, show=False)
    if told is AudioError:
        message = "sim-0-000000.flac: cannot be written (No space left on device). Make room"
        assert message in str(caught.value)
    assert list((tmp_path / "audio").iterdir()) == []
    assert not (tmp_path / "manifest.jsonl").exists()
    write_sessions(simulator(**SHORT), 1, tmp_path, show=False)
    assert check_manifest(tmp_path / "manifest.jsonl") == []


@pytest.mark.parametrize("number", ["0", "-3", "some"])
def test_no_sessions_is_bad_usage(number: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["simulate", "u.jsonl", "--num-sessions", number, "--output", "out"])
    message = f"argument --num-sessions: {number} is asked for, but at least 1 is made"
    assert message in capsys.readouterr().err


def test_sessions_of_two_simulations_are_not_mixed(simulator: Make, tmp_path: Path) -> None:
    write_sessions(simulator(**SHORT), 1, tmp_path, show=False)
    with pytest.raises(ConfigError, match=r"made with config\.hold=0\.35, not 0\.5\. Choose"):
        write_sessions(simulator(**SHORT, hold=0.5), 1, tmp_path, show=False)
    with pytest.raises(ConfigError, match=r"made with seed=0, not 1\. Choose another --output"):
        write_sessions(simulator(seed=1, **SHORT), 1, tmp_path, show=False)


def test_sessions_of_other_audio_are_not_mixed(
    simulator: Make, speech: Corpus, tmp_path: Path
) -> None:
    noises = Corpus.from_manifest(write_noise(tmp_path), tmp_path / "cache", spoken=False)
    room = np.ones((160, 2), dtype=np.float32)
    heard = SHORT | {"noise": 0.5, "reverberation": 0.5}
    given = {"speech": speech, "noises": noises, "rooms": [room]}
    write_sessions(simulator(**given, **heard), 1, tmp_path / "out", show=False)
    cleaned = {
        "utterances": {"speech": replace(speech, samples=speech.samples // 2)},
        "noise": {"noises": replace(noises, samples=noises.samples // 2)},
        "rooms": {"rooms": [room / 2]},
    }
    for name, other in cleaned.items():
        message = rf"made with {name}=\w{{12}}, not \w{{12}}\. Choose another --output"
        with pytest.raises(ConfigError, match=message):
            write_sessions(simulator(**given | other, **heard), 1, tmp_path / "out", show=False)
