"""Utterances decoded once, cut as their lines say, kept until their recordings change."""

import os
import pickle
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tones import SAMPLE_RATE, tone, write_corpus, write_lines, write_noise

from diarize import corpus as corpus_module
from diarize.corpus import Corpus, decoded_recording
from diarize.errors import AudioError, ManifestError


def fail(*args: object, **kwargs: object) -> None:
    raise AssertionError("decoded again")


def test_utterances_are_cut_by_offset_and_duration(tmp_path: Path) -> None:
    samples = np.arange(-8000, 8000, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", samples, SAMPLE_RATE)
    lines = [
        {"audio_filepath": "a.wav", "offset": 0.25, "duration": 0.5, "speaker": "x"},
        {"audio_filepath": "a.wav", "offset": 0.75, "duration": None, "speaker": "b"},
        {"audio_filepath": "a.wav", "speaker": "x"},
    ]
    corpus = Corpus.from_manifest(write_lines(tmp_path / "m.jsonl", lines), tmp_path / "cache")
    assert corpus.speakers == ("b", "x")
    assert corpus.voice.tolist() == [1, 0, 1]
    assert corpus.length.tolist() == [8000, 4000, 16000]
    for index, expected in enumerate([samples[4000:12000], samples[12000:], samples]):
        utterance = corpus.utterance(index)
        assert utterance.dtype == np.float32
        assert np.array_equal(utterance * 32768, expected)
    part = corpus.utterance(0, 100, 50)
    assert np.array_equal(part * 32768, samples[4100:4150])
    assert np.array_equal(corpus.utterance(0, 7900), corpus.utterance(0)[7900:])


def test_lines_may_hear_channels_of_one_recording(tmp_path: Path) -> None:
    samples = np.arange(-8000, 8000, dtype=np.int16)
    soundfile.write(tmp_path / "a.wav", np.stack([samples, 2 * samples], axis=1), SAMPLE_RATE)
    line = {"audio_filepath": "a.wav", "speaker": "x"}
    heard = {}
    for channel in (1, None, 0):  # each line in a manifest and a cache entry of its own
        lines = [line | {"channel": channel}]
        manifest = write_lines(tmp_path / "m.jsonl", lines)
        heard[channel] = Corpus.from_manifest(manifest, tmp_path / "cache").samples
    assert np.array_equal(heard[0], samples) and np.array_equal(heard[1], 2 * samples)
    assert np.abs(heard[None] - 1.5 * samples).max() <= 0.5
    lines = [line | {"channel": channel, "duration": 0.5} for channel in (1, 0)]
    corpus = Corpus.from_manifest(write_lines(tmp_path / "m.jsonl", lines), tmp_path / "cache")
    for index, wanted in enumerate([2 * samples[:8000], samples[:8000]]):
        assert np.array_equal(corpus.utterance(index) * 32768, wanted)
    lines = [line | {"channel": 2}]
    with pytest.raises(AudioError, match=r"m\.jsonl:1: .*a\.wav: channel 2 is asked for, but ther"):
        Corpus.from_manifest(write_lines(tmp_path / "m.jsonl", lines), tmp_path / "cache")


def test_samples_are_rounded_to_the_nearest_step_and_clipped(tmp_path: Path) -> None:
    values = np.array([0.4, 0.6, -0.4, -0.6, 32767.4, 40000.0, -40000.0]) / 32768
    soundfile.write(tmp_path / "a.wav", values.astype(np.float32), SAMPLE_RATE, "FLOAT")
    manifest = write_lines(tmp_path / "m.jsonl", [{"audio_filepath": "a.wav", "speaker": "x"}])
    corpus = Corpus.from_manifest(manifest, tmp_path / "cache", spoken=False)
    assert corpus.samples.dtype == np.int16
    assert corpus.samples.tolist() == [0, 1, 0, -1, 32767, 32767, -32768]


def test_noise_needs_no_speaker(tmp_path: Path) -> None:
    corpus = Corpus.from_manifest(write_noise(tmp_path), tmp_path / "cache", spoken=False)
    assert corpus.speakers == ("",)
    assert corpus.length.tolist() == [3 * SAMPLE_RATE]


def test_second_call_maps_what_the_first_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_corpus(tmp_path / "speech")
    first = Corpus.from_manifest(manifest, tmp_path / "cache")
    monkeypatch.setattr(corpus_module, "read_audio", fail)
    second = Corpus.from_manifest(manifest, tmp_path / "cache")
    assert isinstance(second.samples, np.memmap)
    assert np.array_equal(first.samples, second.samples)
    assert first.fingerprint == second.fingerprint


def test_a_corpus_need_not_fit_into_memory(tmp_path: Path) -> None:
    """Decoding holds a recording at a time, and what is decoded stays on the disk."""
    seconds, number = 20, 24
    soundfile.write(tmp_path / "a.wav", tone(200.0, seconds), SAMPLE_RATE)
    for copy in range(1, number):
        (tmp_path / f"{copy}.wav").symlink_to(tmp_path / "a.wav")
    names = ["a", *map(str, range(1, number))]
    lines = [{"audio_filepath": f"{name}.wav", "speaker": "x"} for name in names]
    manifest = write_lines(tmp_path / "m.jsonl", lines)
    tracemalloc.start()
    corpus = Corpus.from_manifest(manifest, tmp_path / "cache")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert corpus.samples.nbytes == 2 * SAMPLE_RATE * seconds * number
    assert peak < corpus.samples.nbytes / 2


def test_cache_lies_where_xdg_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    Corpus.from_manifest(write_corpus(tmp_path / "speech", 1, 1))
    assert len(list((tmp_path / "xdg" / "diarize").iterdir())) == 2


def test_decoding_says_where_it_keeps_the_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    manifest = write_corpus(tmp_path / "speech", 2, 1)
    for expected in (f"decoding 2 recordings into {tmp_path / 'cache'}\n", ""):
        Corpus.from_manifest(manifest, tmp_path / "cache")
        assert capsys.readouterr().err == expected


def test_decoding_removes_what_was_not_used_for_a_month(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    used, unused = (write_corpus(tmp_path / name, n, 1) for name, n in (("used", 1), ("not", 2)))
    for manifest in (used, unused):
        Corpus.from_manifest(manifest, cache)
    day = 86400.0
    ages = {f".{'a' * 16}.int16.{'b' * 12}.tmp": 2, f"{'c' * 16}.samples.npy": 31, "mine.npy": 99}
    ages |= {f".{'d' * 16}.int16.{'b' * 12}.tmp": 0, f"{'e' * 16}.samples.npy": 29}
    for name in ages:
        (cache / name).touch()
    for path in cache.iterdir():
        stamp = time.time() - ages.get(path.name, 31) * day
        os.utime(path, (stamp, stamp))
    before = set(cache.iterdir())
    Corpus.from_manifest(used, cache)  # mapped, and by that used
    assert set(cache.iterdir()) == before
    Corpus.from_manifest(write_corpus(tmp_path / "new", 3, 1), cache)
    left = {path.name for path in cache.iterdir()}
    assert len(left) == 7  # two files of `used`, two of `new`, and of the others
    kept = {name for name, age in ages.items() if age in (0, 29, 99)}
    assert left & ages.keys() == kept


def test_a_cache_without_room_is_told_with_the_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", fill)
    message = r"cache: cannot be written \(No space left on device\), but .* XDG_CACHE_HOME"
    with pytest.raises(AudioError, match=message):
        Corpus.from_manifest(write_corpus(tmp_path / "speech", 1, 1), tmp_path / "cache")


def test_changed_recording_or_line_is_decoded_anew(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "speech", 1, 1)
    before = Corpus.from_manifest(manifest, tmp_path / "cache")
    soundfile.write(tmp_path / "speech" / "speaker_0.wav", np.zeros(32000), SAMPLE_RATE)
    after = Corpus.from_manifest(manifest, tmp_path / "cache")
    assert before.samples.any() and not after.samples.any()
    line = {"audio_filepath": "speech/speaker_0.wav", "offset": 0.5, "speaker": "x"}
    moved = Corpus.from_manifest(write_lines(tmp_path / "m.jsonl", [line]), tmp_path / "cache")
    assert moved.length.tolist() == [24000]


def test_half_a_cache_is_none(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "speech", 1, 1)
    whole = np.array(Corpus.from_manifest(manifest, tmp_path / "cache").samples)
    next((tmp_path / "cache").glob("*.int16")).unlink()
    assert np.array_equal(Corpus.from_manifest(manifest, tmp_path / "cache").samples, whole)


def test_interrupted_decoding_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_corpus(tmp_path / "speech", 2, 1)
    (tmp_path / "speech" / "speaker_1.wav").write_bytes(b"no audio")
    with pytest.raises(AudioError, match=r"utterances\.jsonl:2: .*speaker_1\.wav"):
        Corpus.from_manifest(manifest, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_many_may_decode_at_once(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "speech")

    def build(_: int) -> np.ndarray:
        return np.array(Corpus.from_manifest(manifest, tmp_path / "cache").samples)

    with ThreadPoolExecutor(4) as pool:
        built = list(pool.map(build, range(4)))
    assert all(np.array_equal(one, built[0]) for one in built)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_another_process_gets_the_file_and_not_the_samples(tmp_path: Path) -> None:
    corpus = Corpus.from_manifest(write_corpus(tmp_path / "speech"), tmp_path / "cache")
    sent = pickle.dumps(corpus)
    assert len(sent) < corpus.samples.nbytes / 10
    received = pickle.loads(sent)
    assert isinstance(received.samples, np.memmap)
    assert np.array_equal(received.samples, corpus.samples)
    assert received.speakers == corpus.speakers


def test_fingerprints_tell_corpora_apart(tmp_path: Path) -> None:
    one = Corpus.from_manifest(write_corpus(tmp_path / "a", 2), tmp_path / "cache")
    other = Corpus.from_manifest(write_corpus(tmp_path / "b", 3), tmp_path / "cache")
    assert one.fingerprint != other.fingerprint
    quieter = replace(one, samples=one.samples // 2)
    assert one.fingerprint != quieter.fingerprint


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"audio_filepath": "a.wav"}, r"m\.jsonl:1: has no 'speaker', but .*\. Add the key"),
        (
            {"audio_filepath": "a.wav", "offset": 1.5, "speaker": "x"},
            r"m\.jsonl:1: starts at 1\.50 s, but its audio lasts 1\.00 s\. Correct",
        ),
        (
            {"audio_filepath": "a.wav", "offset": 0.5, "duration": 0.75, "speaker": "x"},
            r"m\.jsonl:1: ends at 1\.25 s, but its audio lasts 1\.00 s\. Shorten",
        ),
    ],
)
def test_lines_that_cannot_be_used(tmp_path: Path, line: dict, message: str) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(SAMPLE_RATE), SAMPLE_RATE)
    with pytest.raises(ManifestError, match=message):
        Corpus.from_manifest(write_lines(tmp_path / "m.jsonl", [line]), tmp_path / "cache")


def test_hundredths_past_the_end_are_rounding(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(SAMPLE_RATE), SAMPLE_RATE)
    line = {"audio_filepath": "a.wav", "duration": 1.01, "speaker": "x"}
    corpus = Corpus.from_manifest(write_lines(tmp_path / "m.jsonl", [line]), tmp_path / "cache")
    assert corpus.length.tolist() == [SAMPLE_RATE]


def test_empty_manifest_is_no_corpus(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"m\.jsonl: has 0 lines, but .* at least 1"):
        Corpus.from_manifest(write_lines(tmp_path / "m.jsonl", []), tmp_path / "cache")


def test_every_utterance_is_there_at_every_speed(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "speech", 2, 2)
    corpus = Corpus.from_manifest(manifest, tmp_path / "cache", speeds=[0.5, 1.0, 0.5])
    assert corpus.speeds == (0.5, 1.0)
    assert corpus.speakers == ("speaker_0@0.5", "speaker_0", "speaker_1@0.5", "speaker_1")
    assert corpus.voice.tolist() == [0, 1, 0, 1, 2, 3, 2, 3]
    assert corpus.length.tolist() == [32000, 16000, 40000, 20000] * 2
    slow, plain = corpus.utterance(0), corpus.utterance(1)
    assert np.corrcoef(slow[::2], plain)[0, 1] > 0.99


def test_power_is_that_of_each_utterance(tmp_path: Path) -> None:
    corpus = Corpus.from_manifest(write_corpus(tmp_path / "speech"), tmp_path / "cache")
    for index, power in enumerate(corpus.power):
        wave = corpus.utterance(index).astype(np.float64)
        assert power == pytest.approx(np.mean(wave**2), rel=1e-5)


def test_trimmed_utterances_are_stretches_of_speech(tmp_path: Path) -> None:
    silence = np.zeros(SAMPLE_RATE // 2, np.float32)
    said = np.concatenate([silence, tone(200.0, 1.0), silence, tone(200.0, 0.5), silence])
    soundfile.write(tmp_path / "a.wav", said, SAMPLE_RATE)
    words = {"words": ["", "one", ""], "alignments": [0.5, 1.5, 3.0]}
    lines = [{"audio_filepath": "a.wav", "speaker": "x"} | extra for extra in ({}, words)]
    manifest = write_lines(tmp_path / "m.jsonl", lines)
    whole = Corpus.from_manifest(manifest, tmp_path / "cache")
    assert whole.length.tolist() == [said.size, said.size]
    trimmed = Corpus.from_manifest(manifest, tmp_path / "cache", trim=True)
    assert (trimmed.length / SAMPLE_RATE).tolist() == [1.1, 0.6, 1.0]  # two by energy, one by words
    assert trimmed.voice.tolist() == [0, 0, 0]


def test_utterances_too_short_are_left_out_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    soundfile.write(tmp_path / "a.wav", tone(200.0, 1.0), SAMPLE_RATE)
    line = {"audio_filepath": "a.wav", "speaker": "x"}
    lines = [line | {"duration": 0.05}, line, line | {"duration": 0.09}]
    corpus = Corpus.from_manifest(write_lines(tmp_path / "m.jsonl", lines), tmp_path / "cache")
    assert corpus.length.tolist() == [SAMPLE_RATE]
    told = "m.jsonl: 2 of 3 utterances are shorter than 0.1 s, and left out\n"
    assert capsys.readouterr().err.endswith(told)
    with pytest.raises(ManifestError, match=r"1 of 1 utterances are shorter than 0\.1 s, but"):
        Corpus.from_manifest(write_lines(tmp_path / "m.jsonl", lines[:1]), tmp_path / "cache")


# ---- whole recordings


def test_recordings_are_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = np.arange(-8000, 8000, dtype=np.int16)
    path = tmp_path / "a.flac"
    soundfile.write(path, np.stack([samples, samples // 2 * 2], axis=1), SAMPLE_RATE)
    decoded = decoded_recording(path, tmp_path / "cache")
    mean = (samples.astype(int) + samples // 2 * 2) / 2
    assert decoded.dtype == np.int16 and np.abs(decoded - mean).max() <= 0.5
    with monkeypatch.context() as patch:
        patch.setattr(corpus_module, "read_audio", fail)
        assert np.array_equal(decoded_recording(path, tmp_path / "cache"), decoded)
    one = decoded_recording(path, tmp_path / "cache", channel=1)
    assert np.array_equal(one, samples // 2 * 2)
    assert np.array_equal(decoded_recording(path, tmp_path / "cache"), decoded)
    soundfile.write(path, samples[:1000], SAMPLE_RATE)
    assert decoded_recording(path, tmp_path / "cache").tolist() == samples[:1000].tolist()
    assert all(corpus_module.CACHED.fullmatch(p.name) for p in (tmp_path / "cache").iterdir())


def test_a_recording_that_finds_no_room(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.zeros(10), SAMPLE_RATE)
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(AudioError, match=r"cache: cannot be written \(File exists\), but decoded"):
        decoded_recording(tmp_path / "a.wav", tmp_path / "cache")
