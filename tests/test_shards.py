"""Sessions in shards: what was written is heard again, by lhotse too; what is cut short is told."""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tones import write_lines

from diarize.audio import read_audio
from diarize.cli import main
from diarize.data import DrawConfig, WindowPool, open_sessions, open_shards, write_shards
from diarize.data import shards as shards_module
from diarize.errors import AudioError, ManifestError
from diarize.formats.rttm import write_rttm
from diarize.manifest import Session, read_manifest

lhotse = pytest.importorskip("lhotse")

LENGTHS = (6.0, 3.0, 4.0, 2.0, 5.0)


@pytest.fixture
def sessions(a_session: Callable, tmp_path: Path) -> list[Session]:
    """Five sessions; the first is a span of a recording at 8 kHz."""
    lines = []
    for number, length in enumerate(LENGTHS):
        waveform, turns = a_session(2, length)
        rate = 8000 if number == 0 else 16000
        soundfile.write(tmp_path / f"s{number}.wav", waveform[:: 16000 // rate], rate)
        write_rttm(tmp_path / f"s{number}.rttm", {f"s{number}": turns})
        line = {"audio_filepath": f"s{number}.wav", "rttm_filepath": f"s{number}.rttm"}
        lines.append(line | ({"offset": 1.5, "duration": 4.0} if number == 0 else {}))
    return read_manifest(write_lines(tmp_path / "m.jsonl", lines))


@pytest.fixture
def folder(sessions: list[Session], tmp_path: Path) -> Path:
    """Shards of at least five seconds: two sessions, two, and one."""
    write_shards(sessions, tmp_path / "train", 5.0, show=False)
    return tmp_path / "train"


@pytest.fixture(autouse=True)
def nothing_held() -> None:
    shards_module._held.cache_clear()


def test_sessions_come_back_as_they_were(sessions: list[Session], folder: Path) -> None:
    names = [f"{kind}.00000{n}.{end}" for kind, end in (("cuts", "jsonl.gz"), ("recording", "tar"))
             for n in range(3)]  # fmt: skip
    assert sorted(path.name for path in folder.iterdir()) == names
    stretches = open_shards(str(folder))
    assert [stretch.shard for stretch in stretches] == [0, 0, 1, 1, 2]
    for stretch, original in zip(stretches, open_sessions(sessions), strict=True):
        one, other = stretch.example(), original.example()
        assert one.session_id == other.session_id
        assert np.abs(one.signal - other.signal).max() <= 0.6 / 32768
        assert [turn.speaker for turn in one.turns] == [turn.speaker for turn in other.turns]
        for turn, wanted in zip(one.turns, other.turns, strict=True):
            assert (turn.start, turn.end) == pytest.approx((wanted.start, wanted.end), abs=1e-9)


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # lhotse's own
def test_lhotse_reads_them(sessions: list[Session], folder: Path) -> None:
    cuts = list(lhotse.CutSet.from_shar(in_dir=folder))
    assert [cut.id for cut in cuts] == ["s0", "s1", "s2", "s3", "s4"]
    assert [cut.duration for cut in cuts] == [4.0, *LENGTHS[1:]]
    heard = cuts[2].load_audio()
    assert heard.shape == (1, 64000)
    assert np.abs(heard[0] - read_audio(sessions[2].audio)).max() <= 0.6 / 32768
    assert {s.speaker for s in cuts[2].supervisions} == {"speaker_0", "speaker_1"}


@pytest.mark.parametrize("place", ["train", "train.shards.json"])
def test_windows_of_shards_are_those_of_the_manifest(
    place: str, sessions: list[Session], folder: Path, tmp_path: Path
) -> None:
    """All in one group of shards, so that the order is the same too."""
    draw = DrawConfig(alone=0.2)
    one = WindowPool(open_shards(str(tmp_path / place)), 1.5, draw, [3])
    other = WindowPool(open_sessions(sessions), 1.5, draw, [3])
    for number in range(12):
        window, wanted = one.example(0, number), other.example(0, number)
        assert window.session_id == wanted.session_id
        assert window.start == pytest.approx(wanted.start - 1.5 * (window.session_id == "s0"))
        assert np.abs(window.signal - wanted.signal).max() <= 0.6 / 32768


def test_shards_are_read_a_few_at_a_time(tmp_path: Path, sessions: list[Session]) -> None:
    write_shards(sessions[1:] * 6, tmp_path / "many", 1.0, show=False)
    stretches = open_shards(str(tmp_path / "many"))
    drawn = WindowPool(stretches, 1.0, DrawConfig(arrival=False), [0])
    shard = {stretch.name.split("'")[1]: stretch.shard for stretch in stretches}
    num_places = len(drawn.buckets[0].session)
    orders = []
    for epoch in range(2):
        numbers = range(epoch * num_places, (epoch + 1) * num_places)
        heard = [shard[drawn.example(0, number).session_id] for number in numbers]
        assert set(heard) == set(range(24))
        first = {number: heard.index(number) for number in range(24)}
        last = {number: num_places - heard[::-1].index(number) for number in range(24)}
        open_at_once = [
            sum(first[n] <= moment < last[n] for n in range(24)) for moment in range(num_places)
        ]
        assert max(open_at_once) <= 4
        orders.append(heard)
    assert orders[0] != orders[1]
    assert shards_module._held.cache_info().misses <= 2 * 24 + 4


def test_spans_that_share_an_id_have_names_of_their_own(
    sessions: list[Session], tmp_path: Path
) -> None:
    spans = [replace(sessions[1], offset=start, duration=1.5) for start in (0.0, 1.5)]
    write_shards(spans, tmp_path / "spans", 9.0, show=False)
    stretches = open_shards(str(tmp_path / "spans"))
    assert [stretch.session.session_id for stretch in stretches] == ["s1-1", "s1-2"]


# ---- from elsewhere


def test_an_index_may_list_commands(folder: Path, tmp_path: Path) -> None:
    """As a server would give the files; what it breaks off is told."""
    index = tmp_path / "far.shards.json"
    listed = json.loads((tmp_path / "train.shards.json").read_text())
    far = {
        "cuts": [f"pipe:gzip -dc {tmp_path / name}" for name in listed["cuts"]],
        "recording": [f"pipe:cat {tmp_path / name}" for name in listed["recording"]],
    }
    index.write_text(json.dumps(far))
    assert open_shards(str(index))[4].example().signal.size == 80000
    size = (folder / "recording.000000.tar").stat().st_size // 3
    far["recording"][0] = far["recording"][0].replace("cat", f"head -c {size}")
    index.write_text(json.dumps(far))
    stretches = open_shards(str(index))
    told = (
        rf"head -c {size} \S+\.tar: has 0 sessions that can be read \(.*\), but not the end of an"
    )
    with pytest.raises(AudioError, match=told):
        stretches[0].example()


# ---- bad input


def test_a_shard_that_is_cut_short_is_refused_at_once(folder: Path) -> None:
    path = folder / "recording.000001.tar"
    content = path.read_bytes()
    for size in (len(content) // 2, 512, 0):
        path.write_bytes(content[:size])
        told = rf"recording\.000001\.tar: has {size} bytes, but not the end of an archive\. Is the"
        with pytest.raises(AudioError, match=told):
            open_shards(str(folder))


def test_a_shard_that_lacks_sessions_is_told_when_it_is_read(folder: Path) -> None:
    """Its archive has an end, but not all that its list promises."""
    (folder / "recording.000000.tar").write_bytes((folder / "recording.000002.tar").read_bytes())
    told = r"000000\.tar: holds 0 of the 2 sessions that \S+000000\.jsonl\.gz lists, but not 's0'"
    with pytest.raises(AudioError, match=told):
        open_shards(str(folder))[0].example()
    cuts = folder / "cuts.000002.jsonl.gz"
    (line,) = gzip.decompress(cuts.read_bytes()).splitlines()
    cuts.write_bytes(gzip.compress(line + b"\n" + line.replace(b'"s4"', b'"s5"') + b"\n"))
    told = r"000002\.tar: holds 1 of the 2 sessions that \S+000002\.jsonl\.gz lists, but not 's5'"
    with pytest.raises(AudioError, match=told):
        open_shards(str(folder))[4].example()


def test_a_list_that_is_cut_short_is_refused_at_once(folder: Path) -> None:
    cuts = folder / "cuts.000001.jsonl.gz"
    cuts.write_bytes(cuts.read_bytes()[:-20])
    with pytest.raises(ManifestError, match=r"cuts\.000001\.jsonl\.gz: cannot be read as cuts of"):
        open_shards(str(folder))


def test_what_are_no_shards(folder: Path, tmp_path: Path) -> None:
    (folder / "recording.000001.tar").unlink()
    told = r"train: has 3 lists of cuts and 2 archives of recordings, but shards are pairs of them"
    with pytest.raises(ManifestError, match=told):
        open_shards(str(folder))
    index = tmp_path / "no.shards.json"
    index.write_text('{"cuts": []}')
    with pytest.raises(ManifestError, match=r"no\.shards\.json: cannot be read as a list of shar"):
        open_shards(str(index))
    with pytest.raises(ManifestError, match=r"gone\.shards\.json: cannot be read as a list of s"):
        open_shards(str(tmp_path / "gone.shards.json"))


def test_other_rates_are_not_read(folder: Path) -> None:
    cuts = folder / "cuts.000002.jsonl.gz"
    text = gzip.decompress(cuts.read_bytes()).replace(b"16000", b"44100")
    cuts.write_bytes(gzip.compress(text))
    told = r"cuts\.000002\.jsonl\.gz:1: cut 's4' has 44100 samples a second, but .* at 16000\."
    with pytest.raises(ManifestError, match=told):
        open_shards(str(folder))


def test_a_shard_holds_the_channel_of_a_session(sessions: list[Session], tmp_path: Path) -> None:
    (wanted,) = open_sessions(sessions[1:2])
    waveform, rate = soundfile.read(sessions[1].audio)
    soundfile.write(tmp_path / "two.wav", np.stack([0 * waveform, waveform], axis=1), rate)
    line = replace(sessions[1], audio=tmp_path / "two.wav", channel=1)
    write_shards([line], tmp_path / "one", 5.0, show=False)
    (found,) = open_shards(str(tmp_path / "one"))
    heard = found.example().signal
    assert np.abs(heard - wanted.example().signal).max() <= 1.01 / 32768


def test_what_shards_cannot_hold(sessions: list[Session], folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"has 0 lines, but shards hold at least 1"):
        write_shards([], tmp_path / "new", 5.0)
    with pytest.raises(ManifestError, match=r"train: is there already, but shards are written to"):
        write_shards(sessions, folder, 5.0)
    rows = replace(sessions[0], frame_shift=0.1)
    with pytest.raises(ManifestError, match=r"m\.jsonl:1: session 's0' is of features, but shards"):
        write_shards([rows], tmp_path / "new", 5.0)
    gone = replace(sessions[1], audio=tmp_path / "gone.wav")
    with pytest.raises(AudioError, match=r"m\.jsonl:2: \S+gone\.wav: cannot be read"):
        write_shards([sessions[0], gone], tmp_path / "new", 5.0)
    assert not list(tmp_path.glob("*new*"))  # nothing is left of half of it


def test_the_verb_prints_the_index(
    sessions: list[Session], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    words = ["manifest", "to-shards", str(tmp_path / "m.jsonl"), str(tmp_path / "out")]
    assert main([*words, "--shard-duration", "100"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out.shards.json'}\n"
    assert len(list((tmp_path / "out").iterdir())) == 2
    assert main(words) == 1
    assert "is there already" in capsys.readouterr().err
