import contextlib
import gc
import os
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from diarize import audio
from diarize.audio import SAMPLE_RATE, audio_info, read_audio
from diarize.errors import AudioError

# name -> (soundfile arguments, sample rate, how far a lossy codec may stray)
FORMATS = {
    "wav": (dict(format="WAV", subtype="PCM_16"), 22050, 1e-3),
    "float": (dict(format="WAV", subtype="FLOAT"), 16000, 1e-3),
    "flac": (dict(format="FLAC", subtype="PCM_24"), 44100, 1e-3),
    "mp3": (dict(format="MP3", subtype="MPEG_LAYER_III"), 44100, 0.05),
    "vorbis": (dict(format="OGG", subtype="VORBIS"), 32000, 0.05),
    "opus": (dict(format="OGG", subtype="OPUS"), 48000, 0.05),
}
DURATION = 3.7


def chirp(sample_rate, duration=DURATION):
    """A tone that rises from 100 Hz by 500 Hz a second: every instant differs from every other."""
    time = np.arange(round(duration * sample_rate)) / sample_rate
    return 0.4 * np.sin(2 * np.pi * (100 * time + 250 * time**2))


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Format -> path of the chirp in that format."""
    folder = tmp_path_factory.mktemp("recordings")
    for name, (arguments, sample_rate, _) in FORMATS.items():
        soundfile.write(folder / name, chirp(sample_rate), sample_rate, **arguments)
    return {name: folder / name for name in FORMATS}


@pytest.fixture(scope="module")
def wholes(recordings):
    """Format -> all samples of that recording."""
    return {name: read_audio(path) for name, path in recordings.items()}


@pytest.fixture
def no_ffmpeg(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))


@pytest.fixture
def fake_ffmpeg(monkeypatch, tmp_path):
    """A function: a shell script becomes the ffmpeg on PATH; ``$last`` is its output path."""
    folder = tmp_path / "bin"
    folder.mkdir()

    def install(script):
        program = folder / "ffmpeg"
        program.write_text(f"#!/bin/sh\nfor last; do :; done\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    return install


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_becomes_mono_float32_at_16_khz(recordings, name):
    waveform = read_audio(recordings[name])
    expected = chirp(SAMPLE_RATE)
    assert waveform.dtype == np.float32
    assert waveform.shape == expected.shape
    inner = slice(800, -800)  # a tone that starts at once rings at both ends
    assert np.abs(waveform - expected)[inner].max() < FORMATS[name][2]


@pytest.mark.parametrize("name", FORMATS)
def test_the_header_tells_rate_channels_and_length(recordings, name):
    info = audio_info(recordings[name])
    sample_rate = FORMATS[name][1]
    assert (info.sample_rate, info.channels) == (sample_rate, 1)
    assert info.num_samples == round(DURATION * sample_rate)
    assert info.duration == pytest.approx(DURATION)
    assert info.num_samples_at(SAMPLE_RATE) == len(read_audio(recordings[name]))


@settings(deadline=None, max_examples=20)
@given(st.sampled_from(tuple(FORMATS)), st.floats(0, 3.6), st.floats(0, 3.7))
def test_a_span_is_that_part_of_the_whole(recordings, wholes, name, offset, duration):
    whole = wholes[name]
    duration = min(duration, DURATION - offset)
    span = read_audio(recordings[name], offset, duration)
    first, last = round(offset * SAMPLE_RATE), round((offset + duration) * SAMPLE_RATE)
    assert len(span) == min(last, len(whole)) - first
    assert np.allclose(span, whole[first : first + len(span)], atol=2e-6)


@pytest.mark.parametrize("sample_rate", (4000, 8000, 11025, 22051, 48000, 96000))
def test_spans_of_noise_at_any_rate_join_without_a_seam(tmp_path, sample_rate):
    noise = np.random.default_rng(0).normal(0, 0.1, round(2.5 * sample_rate))
    soundfile.write(tmp_path / "a.wav", noise, sample_rate, subtype="FLOAT")
    whole = read_audio(tmp_path / "a.wav")
    times = (0.0, 0.5, 0.77, 1.3331, 2.5)
    spans = [read_audio(tmp_path / "a.wav", a, b - a) for a, b in pairwise(times)]
    assert np.allclose(np.concatenate(spans), whole, atol=2e-6)


@settings(deadline=None, max_examples=30)
@given(st.integers(1000, 96000), st.integers(1, 3000))
def test_the_length_after_resampling_is_known_beforehand(tmp_path_factory, sample_rate, length):
    path = tmp_path_factory.getbasetemp() / "length.wav"
    soundfile.write(path, np.zeros(length), sample_rate)
    assert len(read_audio(path)) == audio_info(path).num_samples_at(SAMPLE_RATE)


def test_tones_that_16_khz_cannot_hold_vanish_instead_of_folding_back(tmp_path):
    time = np.arange(48000) / 48000
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 9500 * time), 48000)
    assert np.abs(read_audio(tmp_path / "a.wav"))[800:-800].max() < 1e-4


def test_only_the_span_and_its_margin_are_read(tmp_path, monkeypatch):
    soundfile.write(tmp_path / "a.wav", np.zeros(44100 * 60), 44100)
    asked = []
    read = soundfile.SoundFile.read

    def counting(self, frames=-1, *args, **kwargs):
        asked.append(frames)
        return read(self, frames, *args, **kwargs)

    monkeypatch.setattr(soundfile.SoundFile, "read", counting)
    assert len(read_audio(tmp_path / "a.wav", 30.0, 0.5)) == 8000
    assert sum(asked) < 44100 * 0.5 + 8 * audio.MARGIN_SAMPLES


def test_channels_are_averaged_or_one_is_taken(tmp_path):
    left, right = np.full(1600, 0.5), np.full(1600, -0.25)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16000)
    assert audio_info(tmp_path / "a.wav").channels == 2
    assert np.allclose(read_audio(tmp_path / "a.wav"), 0.125, atol=1e-4)
    assert np.allclose(read_audio(tmp_path / "a.wav", channel=0), 0.5, atol=1e-4)
    assert np.allclose(read_audio(tmp_path / "a.wav", channel=1), -0.25, atol=1e-4)
    for channel in (2, -1):
        message = rf"a\.wav: channel {channel} is asked for, but there are 2.*Choose 0 to 1"
        with pytest.raises(AudioError, match=message):
            read_audio(tmp_path / "a.wav", channel=channel)


@pytest.mark.parametrize("name", FORMATS)
def test_long_files_are_read_in_blocks_that_join(recordings, wholes, monkeypatch, name):
    monkeypatch.setattr(audio, "BLOCK_FRAMES", 50_000)
    assert np.allclose(read_audio(recordings[name]), wholes[name], atol=2e-6)


def test_spans_of_an_mp3_are_exact_and_the_decoder_stays_quiet(tmp_path, capfd):
    # A varying bit rate makes frames lean on those before them, over which libmpg123 complains.
    waveform = chirp(16000, 8.0) * np.linspace(0, 1, 128000)
    arguments = dict(format="MP3", bitrate_mode="VARIABLE", compression_level=0.8)
    soundfile.write(tmp_path / "a.mp3", waveform, 16000, **arguments)
    whole = read_audio(tmp_path / "a.mp3")
    for start in range(1, 7):
        span = read_audio(tmp_path / "a.mp3", start + 0.123, 0.5)
        first = round((start + 0.123) * 16000)
        assert np.allclose(span, whole[first : first + 8000], atol=2e-6)
    assert capfd.readouterr().err == ""


def test_a_span_past_the_end_is_an_error_and_rounding_is_not(recordings):
    path = recordings["flac"]
    assert len(read_audio(path, 1.0, DURATION - 1.0 + 0.009)) == round(2.7 * SAMPLE_RATE)
    with pytest.raises(AudioError, match=r"from 1\.000 s to 4\.000 s .* lasts 3\.700 s\. Shorten"):
        read_audio(path, 1.0, 3.0)
    with pytest.raises(AudioError, match=r"from 9\.000 s to 9\.000 s .* lasts 3\.700 s"):
        read_audio(path, 9.0)
    for span in ((-1.0, None), (0.0, -2.0)):
        with pytest.raises(AudioError, match=r"offset -?\d\.0 s and duration .* negative\. Give"):
            read_audio(path, *span)


def test_an_empty_span_and_an_empty_recording_have_no_samples(recordings, tmp_path):
    assert read_audio(recordings["mp3"], 1.0, 0.0).shape == (0,)
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 8000)
    assert read_audio(tmp_path / "empty.wav").shape == (0,)


def test_what_is_no_file_is_told_so(tmp_path):
    with pytest.raises(AudioError, match=r"gone\.wav: cannot be read \(No such file.*Check"):
        audio_info(tmp_path / "gone.wav")
    with pytest.raises(AudioError, match=r"is not a file, but audio is read from files"):
        audio_info(tmp_path)
    (tmp_path / "void.wav").touch()
    with pytest.raises(AudioError, match=r"void\.wav: is empty, 0 bytes, but audio is expected"):
        audio_info(tmp_path / "void.wav")


def test_a_recording_that_is_cut_off_is_told_with_both_numbers(recordings, tmp_path):
    whole = recordings["mp3"].read_bytes()
    (tmp_path / "cut.mp3").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AudioError, match=r"promises 163170 samples, but only \d+ can be read\. Is"):
        read_audio(tmp_path / "cut.mp3")
    whole = recordings["flac"].read_bytes()
    (tmp_path / "cut.flac").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(AudioError, match=r"cut\.flac: cannot be decoded \(.+\)\. Is the file dam"):
        read_audio(tmp_path / "cut.flac")


def test_samples_that_are_no_numbers_are_told_with_their_place(tmp_path):
    samples = np.zeros(2000, dtype=np.float32)
    samples[1234] = np.nan
    soundfile.write(tmp_path / "a.wav", samples, 16000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"a\.wav: sample 1234 is not a number"):
        read_audio(tmp_path / "a.wav", 0.05)


def test_without_ffmpeg_an_unknown_format_says_what_would_help(tmp_path, no_ffmpeg):
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " * 50)
    message = r"a\.m4a: libsndfile cannot read it \(.+\), and no ffmpeg is on PATH.* Install ffmpeg"
    with pytest.raises(AudioError, match=message):
        read_audio(tmp_path / "a.m4a")


def test_a_flac_stream_of_unknown_length_is_left_to_ffmpeg(recordings, tmp_path, no_ffmpeg):
    flac = bytearray(recordings["flac"].read_bytes())
    flac[21] &= 0xF0  # STREAMINFO's 36 bits of total samples; 0 is unknown
    flac[22:26] = bytes(4)
    (tmp_path / "stream.flac").write_bytes(flac)
    with pytest.raises(AudioError, match=r"stream\.flac: .*its header does not say how long it is"):
        audio_info(tmp_path / "stream.flac")


def test_ffmpeg_decodes_once_what_libsndfile_cannot(recordings, tmp_path, fake_ffmpeg):
    path = tmp_path / "a.m4a"
    path.write_bytes(b"no audio")
    fake_ffmpeg(f'echo "$@" >> {tmp_path}/calls; cp {recordings["flac"]} "$last"')
    whole = read_audio(recordings["flac"])
    assert audio_info(path) == audio_info(recordings["flac"])
    assert np.array_equal(read_audio(path), whole)
    assert np.allclose(read_audio(path, 1.0, 0.5), whole[16000:24000], atol=2e-6)
    (call,) = (tmp_path / "calls").read_text().splitlines()
    assert f"-i {path} -map 0:a:0" in call
    path.write_bytes(b"other audio")  # a changed file is decoded again
    audio_info(path)
    assert len((tmp_path / "calls").read_text().splitlines()) == 2


def test_a_decoded_copy_outlives_no_process_however_it_ends(recordings, tmp_path, fake_ffmpeg):
    path = tmp_path / "a.wma"
    path.write_bytes(b"no audio")
    fake_ffmpeg(f'echo "$last" > {tmp_path}/copy; cp {recordings["flac"]} "$last"')
    whole = read_audio(path)
    child = os.fork()  # as a loader's worker, which ends without a word to Python
    if not child:
        status = 1
        try:
            assert np.allclose(read_audio(path, 1.0, 0.5), whole[16000:24000], atol=2e-6)
            os.utime(path, (0, 0))  # changed, so that it is decoded again, here
            assert np.array_equal(read_audio(path), whole)
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert not Path((tmp_path / "copy").read_text().strip()).exists()
    assert np.array_equal(read_audio(path), whole)


def held_files() -> set[str]:
    """Files that this process holds open; sockets and pipes, which threads have, are none."""
    held = set()
    for number in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/dev/fd/{number}")
            if target.startswith(("/memfd:", tempfile.gettempdir())):
                held.add(target)
    return held


def test_a_decoded_copy_is_let_go_when_it_is_no_longer_held(recordings, tmp_path, fake_ffmpeg):
    path = tmp_path / "a.wma"
    path.write_bytes(b"no audio")
    fake_ffmpeg(f'cp {recordings["flac"]} "$last"')
    audio._decode.cache_clear()
    gc.collect()
    before = held_files()
    audio_info(path)
    assert len(held_files() - before) == 1
    audio._decode.cache_clear()
    gc.collect()
    assert not held_files() - before


def test_where_ffmpeg_fails_too_both_reasons_are_told(tmp_path, fake_ffmpeg):
    path = tmp_path / "a.txt"
    path.write_text("hello")
    fake_ffmpeg('echo "noise" >&2; echo "Invalid data found" >&2; exit 1')
    message = r"a\.txt: neither libsndfile \(.+\) nor ffmpeg \(Invalid data found\) can read it"
    with pytest.raises(AudioError, match=message):
        audio_info(path)
