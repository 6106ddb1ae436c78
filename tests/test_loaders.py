"""What a run learns from: bad recordings are told plainly, windows are those it saw."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
import torch
from runs import TINY, Material
from tones import SAMPLE_RATE, write_lines

from diarize.config import load_config
from diarize.errors import AudioError
from diarize.formats.rttm import write_rttm
from diarize.loaders import DataConfig, DiarizationData
from diarize.module import TrainingConfig
from diarize.training import train

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),
]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_bad_recording_is_told_in_one_line(
    num_workers: int, material: Material, a_session: Callable, tmp_path: Path
) -> None:
    waveform, turns = a_session(2, 8.0)
    recording = tmp_path / "bad.flac"
    soundfile.write(recording, waveform, SAMPLE_RATE)
    recording.write_bytes(recording.read_bytes()[:-1000])  # the header is whole
    write_rttm(tmp_path / "bad.rttm", {"bad": turns})
    line = {"audio_filepath": "bad.flac", "rttm_filepath": "bad.rttm"}
    sessions = write_lines(tmp_path / "sessions.jsonl", [line])
    settings = material.settings(
        data__utterances="null", data__validation="null", data__sessions=sessions
    )
    settings = [s for s in settings if "num_workers" not in s]
    with pytest.raises(AudioError) as caught:
        train([TINY], [*settings, f"data.num_workers={num_workers}"], tmp_path / "exp")
    assert re.fullmatch(r"\S+bad\.flac: .*\. Is the file (cut off|damaged)\?", str(caught.value))


def test_recordings_are_looked_at_before_a_run_begins(material: Material, tmp_path: Path) -> None:
    line = {"audio_filepath": "gone.wav", "duration": 9.0, "rttm_filepath": "gone.rttm"}
    write_rttm(tmp_path / "gone.rttm", {"gone": []})
    sessions = write_lines(tmp_path / "sessions.jsonl", [line])
    with pytest.raises(AudioError, match=r"sessions\.jsonl:1: \S+gone\.wav: cannot be read \(No"):
        train([TINY], material.settings(data__sessions=sessions), tmp_path / "exp")
    assert not (tmp_path / "exp").exists()


def test_recommended_window_is_one_that_was_heard() -> None:
    def window(*overrides: str) -> float:
        return load_config(DataConfig, overrides=overrides).trained_window

    simulated = ["utterances=x", "simulation.duration=12"]
    assert window(*simulated) == 12.0
    assert window(*simulated, "sessions=y", "window=40") == 40.0
    assert window("sessions=y", "window=40") == 40.0
    endless = ["simulation.duration=null", "simulation.independent_share=1"]
    assert window("utterances=x", *endless, "window=40") == 40.0


def test_data_leave_the_draw_of_weights_alone(material: Material) -> None:
    """Weights are drawn before and after the data are made ready."""
    config = load_config(
        TrainingConfig, [TINY], material.settings(data__sessions=material.validation)
    )
    before = torch.get_rng_state()
    DiarizationData(config.data, config.seed, 10, tell_voices=True)
    assert torch.equal(torch.get_rng_state(), before)
