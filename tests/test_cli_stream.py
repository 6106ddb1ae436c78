"""``diarize stream``: each turn once, the same as ``infer`` finds in the whole."""

import io
import json
import queue
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import diarize.capture
import diarize.cli.stream
from diarize.checkpoint import save_checkpoint
from diarize.cli import main
from diarize.config import load_config
from diarize.formats.posteriors import read_posteriors
from diarize.model import Diarizer
from diarize.module import TrainingConfig

TINY = Path(__file__).parents[1] / "conf" / "tiny.yaml"
LATENCY = ["--latency", "chunk=4,left=1,right=2,fifo=6,cache=20,update=5"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A streaming model of random weights, that changes its mind."""
    torch.manual_seed(3)
    normalization = "diarizer.front_end.mel.normalization=none"
    diarizer = Diarizer(load_config(TrainingConfig, [TINY], [normalization]).diarizer)
    with torch.no_grad():
        diarizer.head.output.weight.mul_(20)
    return save_checkpoint(diarizer, tmp_path / "model")


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Nine seconds of noise, now loud, now soft, as whole numbers of 16 bits."""
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 1, 144_000) * np.repeat(rng.uniform(0, 0.2, 36), 4000)
    path = tmp_path / "talk.wav"
    soundfile.write(path, samples.clip(-1, 1), 16000, subtype="PCM_16")
    return path


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


def close(found: str, expected: str) -> None:
    """The same lines in any order, but for the rounding of confidences."""
    ours, theirs = (
        sorted(line.split() for line in text.splitlines()) for text in (found, expected)
    )
    assert [line[:8] for line in ours] == [line[:8] for line in theirs]
    confidences = [[float(line[8]) for line in lines] for lines in (ours, theirs)]
    assert confidences[0] == pytest.approx(confidences[1], abs=1e-4)


def test_a_stream_tells_the_turns_that_infer_finds(
    model: Path, audio: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    assert main(["infer", str(audio), "--model", str(model), *LATENCY]) == 0
    expected = capsys.readouterr().out
    assert expected.count("SPEAKER talk 1 ") > 2
    output = tmp_path / "live.rttm"
    command = ["stream", str(audio), "--model", str(model), *LATENCY, "--output", str(output)]
    assert main(command) == 0
    told = capsys.readouterr()
    close(told.out, expected)
    close(output.read_text(), expected)
    starts = [float(line.split()[3]) for line in output.read_text().splitlines()]
    assert starts == sorted(starts)
    assert "waits up to 0.48 s" in told.err

    feed(monkeypatch, soundfile.read(audio, dtype="int16")[0].tobytes())
    assert main(["stream", "-", "--model", str(model), *LATENCY, "--session-id", "talk"]) == 0
    close(capsys.readouterr().out, expected)


def test_posteriors_are_those_of_infer(
    model: Path, audio: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("infer", "stream"):
        command = [verb, str(audio), "--model", str(model), *LATENCY]
        assert main([*command, "--posteriors", str(tmp_path / verb)]) == 0
    with np.load(tmp_path / "infer/talk.npz") as ours, np.load(tmp_path / "stream/talk.npz") as own:
        assert ours["posterior"].shape == own["posterior"].shape == (113, 4)
        np.testing.assert_allclose(own["posterior"], ours["posterior"], atol=1e-6)
        assert own["posterior"].dtype == np.float32 and own["frame_shift"] == 0.08
    ours, own = (read_posteriors(tmp_path / verb / "talk.npz") for verb in ("infer", "stream"))
    assert (own.offset, own.duration) == (ours.offset, ours.duration)
    assert own.made_by["streamed"] == LATENCY[-1]
    assert own.made_by["weights_sha256"] == ours.made_by["weights_sha256"]
    assert list((tmp_path / "stream").iterdir()) == [tmp_path / "stream/talk.npz"]


def test_later_speakers_than_asked_for_are_left_out(
    model: Path, audio: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["stream", str(audio), "--model", str(model), *LATENCY]
    assert main(command) == 0
    everybody = capsys.readouterr().out
    assert main([*command, "--max-speakers", "2"]) == 0
    two = capsys.readouterr().out
    kept = [
        line for line in everybody.splitlines() if line.split()[7] in ("speaker_0", "speaker_1")
    ]
    assert 0 < len(kept) < len(everybody.splitlines())
    close(two, "\n".join(kept))
    for flag in ("max_speakers", "num_speakers"):
        assert main([*command, f"--{flag.replace('_', '-')}", "0"]) == 1
        assert f"{flag} 0" in capsys.readouterr().err.replace(" is ", " ")


def test_what_cannot_be_heard_leaves_earlier_results(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "before.rttm"
    kept.write_text("as it was")
    command = ["stream", str(tmp_path / "no.wav"), "--model", str(model), "--output", str(kept)]
    assert main([*command, "--posteriors", str(tmp_path)]) == 1
    assert "no.wav: cannot be read" in capsys.readouterr().err
    assert kept.read_text() == "as it was" and not list(tmp_path.glob("*.npz"))


def test_audio_that_the_network_cannot_bear_is_told(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    loud, soft = tmp_path / "loud.wav", tmp_path / "soft.wav"
    rng = np.random.default_rng(0)
    soundfile.write(loud, rng.normal(0, 1e24, 32000).astype(np.float32), 16000, subtype="FLOAT")
    soundfile.write(soft, rng.normal(0, 0.1, 32000).astype(np.float32), 16000, subtype="FLOAT")
    assert main(["stream", str(loud), "--model", str(model), *LATENCY]) == 1
    assert "s makes the network answer NaN or infinity" in capsys.readouterr().err
    command = ["infer", str(loud), str(soft), "--model", str(model), *LATENCY]
    assert main([*command, "--output", str(tmp_path / "sys")]) == 1
    assert "loud: the audio at 0.00 s makes the network answer NaN" in capsys.readouterr().err
    (record,) = (tmp_path / "sys").glob("*.passport")
    assert {path.name for path in (tmp_path / "sys").iterdir()} == {"soft.rttm", record.name}
    assert list(json.loads(record.read_text())["files"]) == ["soft.rttm"]


class Microphone:
    """Stands in for ``sounddevice``: hears a recording, then the user's Ctrl-C."""

    class PortAudioError(Exception):
        pass

    def __init__(self, samples: np.ndarray, fault: str = "") -> None:
        self.samples, self.fault = samples, fault

    def InputStream(self, *settings: object, callback: Callable[..., None]) -> "Microphone":
        if self.fault:
            raise self.PortAudioError(self.fault)
        self.settings, self.callback = settings, callback
        return self

    def __enter__(self) -> "Microphone":
        for piece in np.split(self.samples, range(1600, len(self.samples), 1600)):
            self.callback(piece[:, None], len(piece), None, None)
        return self

    def __exit__(self, *error: object) -> None:
        self.closed = True


class Heard(queue.Queue):
    """At its end the user presses Ctrl-C."""

    def get(self) -> np.ndarray:
        try:
            return super().get(block=False)
        except queue.Empty:
            raise KeyboardInterrupt from None


def test_a_microphone_is_heard_until_it_is_interrupted(
    model: Path, audio: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["stream", str(audio), "--model", str(model), *LATENCY]) == 0
    expected = capsys.readouterr().out.replace(" talk ", " stream ")
    samples, _ = soundfile.read(audio, dtype="float32")
    microphone = Microphone(samples)
    monkeypatch.setitem(sys.modules, "sounddevice", microphone)
    monkeypatch.setattr(diarize.capture, "Queue", Heard)
    command = ["stream", "--model", str(model), *LATENCY, "--microphone"]
    assert main(command) == 130
    close(capsys.readouterr().out, expected)
    assert microphone.settings == (16000, 1600, None, 1, "float32") and microphone.closed
    assert main([*command, "3"]) == 130
    assert microphone.settings[2] == 3
    capsys.readouterr()

    monkeypatch.setattr(diarize.capture, "BEHIND", 5)
    assert main(command) == 1
    told = capsys.readouterr()
    assert "microphone: it is 5 s ahead, for the model is slower" in told.err
    monkeypatch.setattr(diarize.capture, "BEHIND", 60)
    monkeypatch.setitem(sys.modules, "sounddevice", Microphone(samples, fault="Invalid rate"))
    assert main([*command, "USB"]) == 1
    assert (
        "microphone USB: cannot be recorded at 16000 Hz (Invalid rate)" in capsys.readouterr().err
    )
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert main(command) == 1
    assert "needs sounddevice, but it is not installed" in capsys.readouterr().err


def test_a_stream_that_is_too_slow_says_so_once(
    model: Path, audio: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = iter(range(10_000))
    monkeypatch.setattr(diarize.cli.stream.time, "monotonic", lambda: float(next(ticks)))
    monkeypatch.setattr(diarize.cli.stream, "SLOW", 2.0)
    assert main(["stream", str(audio), "--model", str(model), *LATENCY]) == 0
    assert capsys.readouterr().err.count("slower than real time") == 1


def test_an_interrupted_stream_tells_what_it_has_heard(
    model: Path, audio: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    whole = list(diarize.capture.of_recording(audio))

    def interrupted(audio: str, channel: int | None) -> Iterator[np.ndarray]:
        yield from whole[:60]
        raise KeyboardInterrupt

    monkeypatch.setattr(diarize.capture, "of_recording", interrupted)
    output = tmp_path / "live.rttm"
    command = ["stream", str(audio), "--model", str(model), *LATENCY, "--output", str(output)]
    assert main(command) == 130
    told = capsys.readouterr()
    assert told.out.count("SPEAKER talk 1 ") > 1 and "interrupted" in told.err
    close(output.read_text(), told.out)
    ends = [sum(map(float, line.split()[3:5])) for line in told.out.splitlines()]
    assert 5.5 < max(ends) <= 6.0  # 6 s were fed


def test_what_cannot_be_streamed(
    model: Path, audio: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, b"abc")
    assert main(["stream", "-", "--model", str(model), *LATENCY]) == 1
    assert "-: ends within a sample" in capsys.readouterr().err
    assert main(["stream", str(audio), "--model", "default", *LATENCY]) == 1
    assert "per_feature and no prior" in capsys.readouterr().err
    assert main(["stream", str(audio), "--model", str(model), "--latency", "offline"]) == 1
    assert "latency is offline, but a stream has no end to wait for" in capsys.readouterr().err
    for given in ([], [str(audio), "--microphone"]):
        with pytest.raises(SystemExit):
            main(["stream", *given, "--model", str(model)])
        assert "give AUDIO, - or --microphone, one of them" in capsys.readouterr().err
    assert main(["stream", str(audio), "--model", str(model), "--session-id", "a b"]) == 1
    assert "Use --session-id" in capsys.readouterr().err
    beside = ["--session-id", "../b", "--posteriors", str(model)]
    assert main(["stream", str(audio), "--model", str(model), *beside]) == 1
    assert "session id '../b' holds '/', but it must name a file" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["stream", "-", "--model", str(model), "--channel", "1"])
    assert "--channel picks one of a recording's" in capsys.readouterr().err
