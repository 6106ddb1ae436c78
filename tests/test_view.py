"""What `diarize view` puts into a page; `test_view_page.py` opens one."""

import base64
import hashlib
import io
import json
import re
import shutil
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from diarize.errors import AudioError, ConfigError, PosteriorError, ScoreError
from diarize.formats.posteriors import Posteriors, write_posteriors
from diarize.manifest import Session
from diarize.picture import COLORS
from diarize.recording import open_recording
from diarize.score import CONDITIONS
from diarize.turns import Segment, Turn
from diarize.view import write_page
from diarize.view.page import BUNDLE
from diarize.view.scene import UNMAPPED
from diarize.view.sound import SOUND_BYTES, bitrate_for, hear

WEB = BUNDLE.parent / "web"
HOSTILE = "</script><script>alert(1)</script>&amp;\"'<!--\u2028日本 Зоя"
REFERENCE = [Turn(0.0, 4.0, "anna"), Turn(4.0, 9.0, "ben"), Turn(9.0, 10.0, "cleo")]
HYPOTHESIS = [Turn(0.0, 3.0, "speaker_1"), Turn(4.0, 9.0, "speaker_0"), Turn(9.5, 10.5, "x")]


class Page(HTMLParser):
    """Blocks of a page by their id, the text of its script and style, and every address in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.blocks: dict[str, str] = {}
        self.texts: dict[str, list[str]] = {"script": [], "style": [], "title": []}
        self.policy = ""
        self.addresses: list[str] = []
        self._open = ("", "")
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        self._open = (tag, known.get("id") or "")
        self.addresses += [str(v) for k, v in attrs if k in ("src", "href", "action", "data")]
        if known.get("http-equiv") == "Content-Security-Policy":
            self.policy = str(known["content"])

    def handle_endtag(self, tag: str) -> None:
        self._open = ("", "")

    def handle_data(self, data: str) -> None:
        tag, name = self._open
        if tag == "script" and name:
            self.blocks[name] = self.blocks.get(name, "") + data
        elif tag in self.texts:
            self.texts[tag].append(data)

    def json(self, name: str) -> dict[str, Any]:
        values: dict[str, Any] = json.loads(self.blocks[name])
        return values


def inflated(values: str, kind: str) -> np.ndarray:
    return np.frombuffer(zlib.decompress(base64.b64decode(values)), dtype=kind)


def record(path: Path, seconds: float = 11.0, rate: int = 16000) -> Path:
    """Silence, but for a second of noise after the third."""
    signal = np.zeros(round(seconds * rate), dtype=np.float32)
    signal[3 * rate : 4 * rate] = np.random.default_rng(0).uniform(-0.3, 0.3, rate)
    soundfile.write(path, signal, rate)
    return path


def posteriors(path: Path, seconds: float = 11.0, num_slots: int = 2) -> Path:
    rows = np.tile(np.linspace(0.0, 1.0, num_slots, dtype=np.float32), (round(seconds / 0.1), 1))
    write_posteriors(path, Posteriors(rows, 0.1, 0.0, 0.1 * len(rows)))
    return path


# ---- lanes and errors


def test_a_speaker_stands_below_the_reference_speaker_he_is_mapped_to(tmp_path: Path) -> None:
    write_page(tmp_path / "p.html", {"a": HYPOTHESIS}, {"a": REFERENCE})
    lanes = Page(tmp_path / "p.html").json("session-0")["lanes"]
    assert [(lane["side"], lane["name"], lane["color"]) for lane in lanes] == [
        ("reference", "anna", COLORS[0]),
        ("hypothesis", "speaker_1", COLORS[0]),
        ("reference", "ben", COLORS[1]),
        ("hypothesis", "speaker_0", COLORS[1]),
        ("reference", "cleo", COLORS[2]),
        ("hypothesis", "x", COLORS[2]),
    ]
    assert lanes[0]["turns"] == [0.0, 4.0]


def test_who_is_mapped_to_nobody_is_grey_and_last(tmp_path: Path) -> None:
    hypothesis = [Turn(0.0, 1.0, "extra"), *HYPOTHESIS, Turn(5.0, 6.0, "extra")]
    write_page(tmp_path / "p.html", {"a": hypothesis}, {"a": REFERENCE})
    *_, last = Page(tmp_path / "p.html").json("session-0")["lanes"]
    assert (last["name"], last["color"]) == ("extra", UNMAPPED)
    assert last["turns"] == [0.0, 1.0, 5.0, 6.0]


def test_without_a_reference_every_speaker_has_a_colour_and_nothing_is_wrong(
    tmp_path: Path,
) -> None:
    write_page(tmp_path / "p.html", {"a": HYPOTHESIS})
    page = Page(tmp_path / "p.html")
    scene = page.json("session-0")
    assert [lane["color"] for lane in scene["lanes"]] == list(COLORS[:3])
    assert (scene["scored"], scene["errors"]) == (False, [])
    assert page.json("page")["condition"] is None


def test_errors_are_those_that_are_counted(tmp_path: Path) -> None:
    write_page(tmp_path / "p.html", {"a": HYPOTHESIS}, {"a": REFERENCE})
    page = Page(tmp_path / "p.html")
    assert page.json("session-0")["errors"] == [
        [3.0, 4.0, "miss", 1, ["anna"], []],
        [9.0, 9.5, "miss", 1, ["cleo"], []],
        [10.0, 10.5, "false alarm", 1, [], ["x"]],
    ]
    (line,) = page.json("page")["sessions"]
    shares = {"der": 20.0, "miss": 15.0, "false_alarm": 5.0, "confusion": 0.0, "scored": 10.0}
    assert {name: line[name] for name in shares} == pytest.approx(shares)


def test_figures_say_under_which_condition_they_hold(tmp_path: Path) -> None:
    uems = {"a": [Segment(0.0, 5.0), Segment(6.0, 8.0)]}
    write_page(tmp_path / "p.html", {"a": HYPOTHESIS}, {"a": REFERENCE}, CONDITIONS["fair"], uems)
    page = Page(tmp_path / "p.html")
    said = page.json("page")["condition"].splitlines()
    assert said[0].startswith("condition: fair (collar 0.25 s on each side, overlap scored")
    assert said[1] == "scored region: as given by UEM or manifest"
    assert page.json("session-0")["regions"] == [[0.0, 5.0], [6.0, 8.0]]


def test_slots_lie_with_the_speakers_they_became(tmp_path: Path) -> None:
    files = {"a": posteriors(tmp_path / "a.npz", num_slots=3)}
    write_page(tmp_path / "p.html", {"a": HYPOTHESIS}, {"a": REFERENCE}, posteriors=files)
    scene = Page(tmp_path / "p.html").json("session-0")
    slots = [(lane["name"], lane["slot"]) for lane in scene["lanes"] if lane["slot"] is not None]
    assert slots == [("speaker_1", 1), ("speaker_0", 0), ("slot 2", 2)]
    levels = inflated(scene["posterior"]["values"], "uint8").reshape(3, -1)
    np.testing.assert_array_equal(levels, np.repeat([[0], [128], [255]], 110, axis=1))


# ---- many sessions


def test_the_worst_session_comes_first(tmp_path: Path) -> None:
    good, bad = REFERENCE, [Turn(0.0, 1.0, "x")]
    hypotheses = {"good": good, "worst": [], "bad": bad}
    write_page(tmp_path / "p.html", hypotheses, dict.fromkeys(hypotheses, REFERENCE))
    page = Page(tmp_path / "p.html")
    sessions = page.json("page")["sessions"]
    assert [line["session_id"] for line in sessions] == ["worst", "bad", "good"]
    assert [line["der"] for line in sessions] == pytest.approx([100.0, 90.0, 0.0])
    assert page.json("page")["total"]["der"] == pytest.approx(190 / 3)
    assert page.json("session-2")["lanes"][0]["name"] == "anna"


def test_where_nothing_is_scored_the_rate_is_infinite(tmp_path: Path) -> None:
    write_page(tmp_path / "p.html", {"a": HYPOTHESIS, "b": []}, {"a": [], "b": []})
    first, second = Page(tmp_path / "p.html").json("page")["sessions"]
    assert (first["session_id"], first["der"], second["der"]) == ("a", None, 0.0)


def test_what_the_hypothesis_lacks_is_told_and_what_the_reference_lacks_refused(
    tmp_path: Path,
) -> None:
    references = {"a": REFERENCE, "b": REFERENCE}
    write_page(tmp_path / "p.html", {"a": HYPOTHESIS}, references)
    said = Page(tmp_path / "p.html").json("page")["condition"]
    assert "note: the reference has 1 session more ('b'); not shown" in said
    with pytest.raises(ScoreError, match=r"the reference lacks 1 session of 2 .*'c'"):
        write_page(tmp_path / "q.html", {"a": HYPOTHESIS, "c": []}, references)
    assert not (tmp_path / "q.html").exists()


# ---- sound


def test_sound_is_drawn_where_it_is_and_plays_as_long(tmp_path: Path) -> None:
    recording = open_recording(record(tmp_path / "a.wav", rate=8000))
    told: list[float] = []
    sound = hear(recording, Segment(2.0, 9.5), 16000, told.append)
    low, high = sound.peaks.T
    assert len(sound.peaks) == 375 and sound.peaks_per_second == 50
    assert (high[52:98] > 80).all() and (low[52:98] < -80).all()
    assert (np.abs(sound.peaks[:48]) < 10).all() and (np.abs(sound.peaks[102:]) < 10).all()
    assert sum(told) == pytest.approx(7.5)
    assert sound.ogg is not None
    with soundfile.SoundFile(io.BytesIO(sound.ogg)) as played:
        assert (played.format, played.subtype, played.samplerate) == ("OGG", "OPUS", 16000)
        signal = played.read()
    assert len(signal) == pytest.approx(7.5 * 16000, abs=16)
    (loud,) = np.nonzero(np.abs(signal) > 0.05)
    assert (loud[0] / 16000, loud[-1] / 16000) == pytest.approx((1.0, 2.0), abs=0.02)


def test_pieces_are_joined_without_a_seam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("diarize.view.sound.PIECE", 1.0)
    tone = 0.5 * np.sin(2 * np.pi * 300 * np.arange(2.5 * 16000) / 16000)
    soundfile.write(tmp_path / "a.wav", tone, 16000)
    sound = hear(open_recording(tmp_path / "a.wav"), Segment(0.0, 2.5), 6000, lambda _: None)
    assert len(sound.peaks) == 125
    assert np.abs(sound.peaks).min() >= 120


def test_features_are_drawn_and_not_played(tmp_path: Path) -> None:
    rows = np.zeros((100, 4), dtype=np.float32)
    rows[40:60] = 2.0
    np.save(tmp_path / "a.npy", rows)
    session = Session("a", tmp_path / "a.npy", frame_shift=0.1)
    write_page(tmp_path / "p.html", {"a": [Turn(4.0, 6.0, "x")]}, recordings={"a": session})
    page = Page(tmp_path / "p.html")
    scene = page.json("session-0")
    assert (scene["heard"], scene["end"], "sound-0" in page.blocks) == ("features", 10.0, False)
    high = inflated(scene["peaks"]["values"], "int8").reshape(-1, 2)[:, 1]
    np.testing.assert_array_equal(high, np.repeat([0, 127, 0], [40, 20, 40]))


@given(st.floats(min_value=0.0, max_value=5 * 3600.0))
def test_bits_go_round(seconds: float) -> None:
    assert seconds * bitrate_for(seconds) / 8 <= SOUND_BYTES
    assert 6000 <= bitrate_for(seconds) <= 24000


def test_a_window_of_a_recording_begins_where_it_says(tmp_path: Path) -> None:
    session = Session("a", record(tmp_path / "a.wav"), offset=2.0, duration=4.0)
    files = {"a": posteriors(tmp_path / "a.npz", 4.0)}
    turns = [Turn(3.0, 4.0, "x")]
    write_page(tmp_path / "p.html", {"a": turns}, recordings={"a": session}, posteriors=files)
    page = Page(tmp_path / "p.html")
    scene = page.json("session-0")
    assert (scene["start"], scene["end"], scene["posterior"]["start"]) == (2.0, 6.0, 2.0)
    played = soundfile.info(io.BytesIO(base64.b64decode(page.blocks["sound-0"])))
    assert played.duration == pytest.approx(4.0, abs=0.01)


# ---- the page


def test_names_cannot_leave_their_block(tmp_path: Path) -> None:
    turns = [Turn(0.0, 1.0, HOSTILE)]
    write_page(tmp_path / "p.html", {HOSTILE: turns}, {HOSTILE: turns})
    page = Page(tmp_path / "p.html")
    assert page.json("page")["sessions"][0]["session_id"] == HOSTILE
    assert {lane["name"] for lane in page.json("session-0")["lanes"]} == {HOSTILE}
    assert "".join(page.texts["title"]) == f"{HOSTILE} · diarize view"
    assert set(page.blocks) == {"page", "session-0"} and len(page.texts["script"]) == 1


def test_the_browser_may_run_what_was_shipped_and_fetch_nothing(tmp_path: Path) -> None:
    write_page(tmp_path / "p.html", {"a": HYPOTHESIS})
    page = Page(tmp_path / "p.html")
    rules = dict(rule.strip().split(" ", 1) for rule in page.policy.split(";"))
    for kind in ("script", "style"):
        (text,) = page.texts[kind]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"
    assert (rules["default-src"], rules["media-src"]) == ("'none'", "blob:")
    assert page.addresses == ["#"]


def test_a_page_is_whole_or_not_at_all(tmp_path: Path) -> None:
    page = tmp_path / "p.html"
    page.write_text("as it was")
    short = Session("a", record(tmp_path / "a.wav", 5.0))
    with pytest.raises(
        AudioError,
        match=r"a\.wav: its audio lasts 5\.00 s, but the hypothesis of session 'a' has a turn "
        r"until 10\.50 s\. Is it",
    ):
        write_page(page, {"a": HYPOTHESIS}, recordings={"a": short})
    assert page.read_text() == "as it was"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.wav", "p.html"]
    write_page(page, {"a": HYPOTHESIS})
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_a_folder_that_is_missing_is_told_before_anything_else(tmp_path: Path) -> None:
    lost = {"a": Session("a", tmp_path / "lost.wav")}
    with pytest.raises(FileNotFoundError, match="there is no folder .*/none to hold it"):
        write_page(tmp_path / "none" / "p.html", {"a": HYPOTHESIS}, recordings=lost)


def test_posteriors_of_another_session_are_told(tmp_path: Path) -> None:
    files = {"a": posteriors(tmp_path / "a.npz", 5.0)}
    with pytest.raises(
        PosteriorError,
        match=r"a\.npz: 50 frames of 0\.1 s last 5\.00 s, but session 'a' has a turn until 10\.50",
    ):
        write_page(tmp_path / "p.html", {"a": HYPOTHESIS}, posteriors=files)
    sessions = {"a": Session("a", record(tmp_path / "a.wav", 20.0))}
    files = {"a": posteriors(tmp_path / "a.npz", 11.0)}
    with pytest.raises(PosteriorError, match=r"last 11\.00 s, but session 'a' lasts 20\.00 s\. Is"):
        write_page(tmp_path / "p.html", {"a": HYPOTHESIS}, recordings=sessions, posteriors=files)


def test_a_page_that_no_browser_would_open_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diarize.view.write.LARGEST_PAGE", 10_000)
    session = Session("a", record(tmp_path / "a.wav"))
    with pytest.raises(ConfigError, match=r"p\.html: 0 h of sound .* page of 0 MiB, but browsers"):
        write_page(tmp_path / "p.html", {"a": HYPOTHESIS}, recordings={"a": session})


# ---- the bundle


def test_the_bundle_was_built_of_these_sources() -> None:
    """Whoever changes ``web/`` says `make page`."""
    script = (BUNDLE / "page.js").read_text(encoding="utf-8")
    digest = hashlib.sha256()
    for path in sorted(WEB.iterdir(), key=lambda path: path.name):
        if path.suffix in (".js", ".mjs", ".css", ".html", ".json"):
            digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    assert script.split("\n")[0] == f"/*! sources {digest.hexdigest()}"


def test_the_bundle_names_its_libraries_and_their_licences() -> None:
    script = (BUNDLE / "page.js").read_text(encoding="utf-8")
    notice = script[: script.index("*/")]
    lock = json.loads((WEB / "package-lock.json").read_text())["packages"]
    asked = json.loads((WEB / "package.json").read_text())["dependencies"]
    for name, version in asked.items():
        assert lock[f"node_modules/{name}"]["version"] == version
        assert f"{name} {version}" in notice
    assert "Permission to use, copy, modify, and/or distribute" in notice


def test_the_bundle_fits_into_a_page() -> None:
    for name, end in (("page.js", "</script"), ("page.css", "</style"), ("page.js", "<!--")):
        text = (BUNDLE / name).read_text(encoding="utf-8")
        assert end not in text.lower() and "\r" not in text
    assert not re.search(r"@import|url\(", (BUNDLE / "page.css").read_text(encoding="utf-8"))


def test_building_again_makes_the_same_bundle(tmp_path: Path) -> None:
    if shutil.which("node") is None or not (WEB / "node_modules" / "esbuild").is_dir():
        pytest.skip("node or diarize/view/web/node_modules is missing; `make page` fetches it")
    subprocess.run(["node", "build.mjs", str(tmp_path)], cwd=WEB, check=True, capture_output=True)
    for path in BUNDLE.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name
