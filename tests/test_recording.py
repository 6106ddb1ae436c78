"""What sessions are cut from: audio at its samples, features at their rows."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from diarize.audio import read_audio
from diarize.errors import AudioError, FeatureError, ManifestError
from diarize.recording import AUDIO, Kind, open_recording, refuse_unheard


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Sixty rows whose numbers tell their place, 25 a second: 2.4 s."""
    np.save(tmp_path / "a.npy", np.arange(60, dtype=np.float32)[:, None] + [0.0, 1000.0])
    return tmp_path / "a.npy"


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (22050, 2))
    soundfile.write(tmp_path / "a.wav", noise, 22050)
    return tmp_path / "a.wav"


def test_rows_are_counted_in_virtual_samples(rows: Path) -> None:
    recording = open_recording(rows, 0.04)
    assert recording.kind == Kind.of_features(2, 0.04)
    assert (recording.sample_rate, recording.num_samples, recording.duration) == (16000, 38400, 2.4)
    assert recording.read(640 * 10, 640 * 3).tolist() == [[10, 1010], [11, 1011], [12, 1012]]
    assert recording.lasts == "its 60 rows of features last 2.40 s"


def test_a_time_goes_to_the_nearest_row(rows: Path) -> None:
    recording = open_recording(rows, 0.04)
    times = (0.0, 0.019, 0.02, 1.0, 1.015, 2.4, 9.0)
    assert [recording.sample_at(time) // 640 for time in times] == [0, 0, 1, 25, 25, 60, 60]
    assert [recording.nearest(time) for time in times[:5]] == [0.0, 0.0, 0.04, 1.0, 1.0]
    assert recording.span("x", 0.99, 2.405) == (25 * 640, 60 * 640)


def test_less_than_a_row_is_no_span(rows: Path) -> None:
    told = r"m:1: x lasts from 1\.00 s to 1\.01 s, but holds no row of .* one every 0\.04 s\. "
    with pytest.raises(ManifestError, match=told):
        open_recording(rows, 0.04).span("m:1: x", 1.0, 1.01)


def test_audio_is_cut_anywhere_and_is_what_read_audio_says(audio: Path) -> None:
    recording = open_recording(audio, channel=1)
    assert recording.kind == AUDIO and recording.lasts == "its audio lasts 1.00 s"
    assert (recording.sample_rate, recording.num_samples, recording.duration) == (16000, 16000, 1.0)
    assert recording.nearest(0.123456789) == 0.123456789
    first, last = recording.span("x", 0.1234567, 0.7654321)
    expected = read_audio(audio, 0.1234567, 0.7654321 - 0.1234567, channel=1)
    assert np.array_equal(recording.read(first, last - first), expected)
    assert recording.span("x", 0.5, 0.5) == (8000, 8000)


def test_kinds_are_told_apart_by_width_and_clock() -> None:
    assert Kind.of_features(8, 0.033333) == Kind.of_features(8, 1 / 30)
    assert len({Kind.of_features(8, 0.04), Kind.of_features(9, 0.04), AUDIO}) == 3
    assert Kind.of_features(8, 0.04) != Kind.of_features(8, 0.05)
    assert str(AUDIO) == "audio"
    assert str(Kind.of_features(512, 1 / 30)) == "features of 512 numbers every 0.0333333333 s"
    near = Kind.of_features(8, 0.02322), Kind.of_features(8, 256 / 11025)
    assert near[0] != near[1] and str(near[0]) != str(near[1])


def test_what_a_model_does_not_hear_is_refused_with_both_kinds() -> None:
    narrow, wide = Kind.of_features(8, 0.04), Kind.of_features(9, 0.04)
    refuse_unheard("m:1: session 'a'", narrow, narrow)
    told = r"m:1: session 'a' is features of 8 numbers every 0\.04 s, but the model hears {}\. Give"
    for hears, name in ((AUDIO, "audio"), (wide, r"features of 9 numbers every 0\.04 s")):
        with pytest.raises(ManifestError, match=told.format(name)):
            refuse_unheard("m:1: session 'a'", narrow, hears)


def test_features_have_no_channels_and_are_no_audio(rows: Path, audio: Path) -> None:
    with pytest.raises(FeatureError, match=r"a\.npy: channel 0 is asked for, but features have no"):
        open_recording(rows, 0.04, channel=0)
    told = r"a\.npy: is an array by its name, but audio is .* 'feature_filepath' and 'frame_shift'"
    with pytest.raises(AudioError, match=told):
        open_recording(rows)
    with pytest.raises(FeatureError, match=r"a\.wav: begins with b'RIFF', but an array is"):
        open_recording(audio, 0.04)


def test_a_channel_that_is_not_there_is_told_before_anything_is_read(audio: Path) -> None:
    assert open_recording(audio, channel=1).channel == 1
    with pytest.raises(AudioError, match=r"channel 2 is asked for, but there are 2, counted from"):
        open_recording(audio, channel=2)
