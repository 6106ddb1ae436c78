"""manifest.split: a split as a manifest with RTTM, UEM and, of several recordings, their mean."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from miniatures import regions, truth, write_noise

from diarize.audio import read_audio
from diarize.errors import ManifestError
from diarize.manifest import read_manifest
from diarize.manifest.split import Labelled, write_split
from diarize.turns import Segment, Turn

KEYS = {"label": "infer", "text": "-", "corpus": "Talks"}


def test_a_split_is_a_manifest_with_rttm_and_uem(tmp_path: Path) -> None:
    turns = [Turn(0.5, 1.0, "B"), Turn(0.0, 0.75, "A")]
    found = [
        Labelled("one", write_noise(tmp_path / "one.wav", 2.0), turns),
        Labelled(
            "two", write_noise(tmp_path / "two.wav", 2.0), [], [Segment(0.5, 1.5)], {"room": "big"}
        ),
    ]
    written, notes = write_split(tmp_path / "data", "test", found, KEYS)
    one, two = read_manifest(tmp_path / "data" / "test.jsonl")
    assert [session.session_id for session in written] == ["one", "two"]
    assert truth(one) == [(0.0, 0.75, "A"), (0.5, 1.0, "B")]
    assert (regions(one), regions(two), truth(two)) == ([(0.0, 2.0)], [(0.5, 1.5)], [])
    assert (one.num_speakers, two.num_speakers) == (2, 0)
    assert (one.extra, two.extra, notes) == (KEYS, {**KEYS, "room": "big"}, [])


def test_turns_and_regions_end_with_the_recording(tmp_path: Path) -> None:
    audio = write_noise(tmp_path / "one.wav", 2.0)
    scored = [Segment(0.5, 9.0), Segment(9.0, 10.0)]
    turns = [Turn(1.0, 2.5, "A"), Turn(2.25, 2.75, "B")]
    found = [Labelled("one", audio, turns, scored)]
    _, notes = write_split(tmp_path / "data", "test", found, KEYS)
    (session,) = read_manifest(tmp_path / "data" / "test.jsonl")
    assert (regions(session), truth(session)) == ([(0.5, 2.0)], [(1.0, 2.0, "A")])
    assert notes == [
        "turns of 1 sessions pass the end of the recording, by up to 0.75 s ('one'); they are cut "
        "there"
    ]


def test_another_reference_is_not_written_over(tmp_path: Path) -> None:
    audio = write_noise(tmp_path / "one.wav", 2.0)
    write_split(tmp_path / "data", "test", [Labelled("one", audio, [Turn(0.0, 1.0, "A")])], KEYS)
    found = [Labelled("one", audio, [Turn(0.0, 1.5, "A")])]
    with pytest.raises(ManifestError, match="holds another reference"):
        write_split(tmp_path / "data", "test", found, KEYS)


def test_of_several_recordings_the_mean_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diarize.manifest.split.BLOCK", 1)  # parts meet without a seam
    ramp = np.linspace(-0.5, 0.5, 40000).astype(np.float32)
    soundfile.write(tmp_path / "a.wav", ramp, 16000, subtype="FLOAT")
    stereo = np.stack([np.full(8000, 0.25), np.full(8000, 0.75)], axis=1)
    soundfile.write(tmp_path / "b.wav", stereo, 16000)
    found = [Labelled("one", [tmp_path / "a.wav", tmp_path / "b.wav"], [])]
    write_split(tmp_path / "data", "test", found, KEYS)
    (session,) = read_manifest(tmp_path / "data" / "test.jsonl")
    assert session.audio == tmp_path / "data" / "audio" / "test" / "one.flac"
    assert session.duration == 2.5
    expected = ramp / 2
    expected[:8000] += 0.25
    np.testing.assert_allclose(read_audio(session.audio), expected, atol=1e-4)
