"""``diarize view``: what is taken, what is refused, and that both are told."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from diarize.cli import main
from diarize.formats.json import write_json
from diarize.formats.posteriors import Posteriors, write_posteriors
from diarize.formats.rttm import write_rttm
from diarize.formats.uem import write_uem
from diarize.manifest import Session, write_manifest
from diarize.turns import Segment, Turn

TALK = [Turn(0.5, 2.0, "ann"), Turn(2.0, 3.0, "bob")]
FOUND = [Turn(0.5, 1.5, "speaker_0"), Turn(2.0, 3.0, "speaker_1")]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where ``talk`` has a recording, turns of both sides in every form, and posteriors."""
    monkeypatch.chdir(tmp_path)
    soundfile.write("talk.wav", np.random.default_rng(0).uniform(-0.2, 0.2, 51200), 16000)
    write_rttm("ref.rttm", {"talk": TALK})
    write_rttm("hyp.rttm", {"talk": FOUND})
    write_json("talk.json", "talk", FOUND, duration=3.2)
    Path("npz").mkdir()
    silence = np.zeros((40, 2), dtype=np.float32)
    write_posteriors(Path("npz/talk.npz"), Posteriors(silence, 0.08, 0.0, 3.2))
    session = Session("talk", Path("talk.wav"), rttm=Path("ref.rttm"))
    write_manifest("talk.jsonl", [session])
    return tmp_path


def block(name: str, path: str = "p.html") -> dict:
    """JSON of a page by its id."""
    opening = f'id="{name}">'
    text = Path(path).read_text(encoding="utf-8")
    values: dict = json.loads(text.partition(opening)[2].partition("</script>")[0])
    return values


def refused(capsys: pytest.CaptureFixture, *arguments: str) -> str:
    """The one line that was said, where no page was written."""
    assert main(["view", *arguments, "-o", "p.html"]) == 1
    assert not Path("p.html").exists()
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("hypothesis", ["hyp.rttm", "talk.json"])
def test_a_session_with_its_recording_and_reference(
    hypothesis: str, capsys: pytest.CaptureFixture
) -> None:
    asked = ["--ref", "ref.rttm", "--audio", "talk.wav", "--posteriors", "npz/talk.npz"]
    assert main(["view", hypothesis, *asked, "-o", "p.html"]) == 0
    assert capsys.readouterr().err == "diarize view: p.html shows 1 session in 0.1 MiB.\n"
    (line,) = block("page")["sessions"]
    assert (line["session_id"], line["der"]) == ("talk", pytest.approx(20.0))
    scene = block("session-0")
    assert (scene["end"], scene["posterior"]["num_slots"]) == (3.2, 2)
    assert 'id="sound-0"' in Path("p.html").read_text(encoding="utf-8")


def test_a_manifest_brings_recording_reference_and_regions() -> None:
    given = ["hyp.rttm", "--manifest", "talk.jsonl", "--posteriors", "npz", "--output", "p.html"]
    assert main(["view", *given]) == 0
    assert block("page")["sessions"][0]["der"] == pytest.approx(20.0)
    write_uem("talk.uem", {"talk": [Segment(0.0, 1.5)]})
    assert main(["view", *given, "--uem", "talk.uem"]) == 0
    assert block("page")["sessions"][0]["der"] == 0.0
    assert block("session-0")["regions"] == [[0.0, 1.5]]


def test_conditions_are_those_of_scoring() -> None:
    asked = ["--ref", "ref.rttm", "--collar", "0.25", "--skip-overlap"]
    assert main(["view", "hyp.rttm", *asked, "-o", "p.html"]) == 0
    assert "forgiving (collar 0.25 s on each side, overlap skipped" in block("page")["condition"]


def test_turns_alone_are_enough() -> None:
    assert main(["view", "hyp.rttm", "-o", "p.html"]) == 0
    assert (block("page")["condition"], "peaks" in block("session-0")) == (None, False)


def test_the_same_json_is_scored(capsys: pytest.CaptureFixture) -> None:
    assert main(["score", "ref.rttm", "talk.json", "--format", "json"]) == 0
    of_json = json.loads(capsys.readouterr().out)
    assert main(["score", "ref.rttm", "hyp.rttm", "--format", "json"]) == 0
    of_rttm = json.loads(capsys.readouterr().out)
    assert of_json["results"] == of_rttm["results"]


def test_windows_of_one_recording_are_one_session() -> None:
    halves = [(0.0, 1.6), (1.6, 1.6)]
    write_manifest(
        "halves.jsonl", [Session("talk", Path("talk.wav"), start, end) for start, end in halves]
    )
    assert main(["view", "hyp.rttm", "--manifest", "halves.jsonl", "-o", "p.html"]) == 0
    assert (block("session-0")["start"], block("session-0")["end"]) == (0.0, 3.2)


def test_what_does_not_belong_together_is_told(capsys: pytest.CaptureFixture) -> None:
    write_rttm("other.rttm", {"Talk": FOUND})
    said = refused(capsys, "other.rttm", "--manifest", "talk.jsonl", "--ref", "other.rttm")
    assert said == (
        "diarize view: talk.jsonl: has no session 'Talk', but the hypothesis does. It has 'talk'. "
        "Add the session, or leave the manifest out."
    )
    said = refused(capsys, "other.rttm", "--ref", "ref.rttm")
    assert "the reference lacks 1 session of 1 in the hypothesis ('Talk')" in said
    write_rttm("late.rttm", {"talk": [Turn(1.0, 80.3, "x")]})
    assert refused(capsys, "late.rttm", "--audio", "talk.wav") == (
        "diarize view: talk.wav: its audio lasts 3.20 s, but the hypothesis of session 'talk' has "
        "a turn until 80.30 s. Is it another recording's?"
    )
    assert "npz/Talk.npz: is missing, but session 'Talk' is shown" in refused(
        capsys, "other.rttm", "--posteriors", "npz"
    )
    soundfile.write("else.wav", np.zeros(51200), 16000)
    write_manifest("two.jsonl", [Session("talk", Path(f"{n}.wav")) for n in ("talk", "else")])
    assert "two.jsonl:2: session 'talk' is of else.wav, but at two.jsonl:1 of talk.wav" in refused(
        capsys, "hyp.rttm", "--manifest", "two.jsonl"
    )
    write_manifest("two.jsonl", [Session("talk", Path("talk.wav"), channel=c) for c in (0, None)])
    assert "'talk' is of talk.wav, but at two.jsonl:1 of channel 0 of talk.wav. Give" in refused(
        capsys, "hyp.rttm", "--manifest", "two.jsonl"
    )
    write_manifest("two.jsonl", [Session("talk", Path("talk.wav"))])
    assert "talk.wav: channel 1 is asked for, but there are 1, counted from 0." in refused(
        capsys, "hyp.rttm", "--manifest", "two.jsonl", "--channel", "1"
    )


def test_missing_files_are_told(capsys: pytest.CaptureFixture) -> None:
    assert "none.rttm: cannot be read" in refused(capsys, "none.rttm")
    assert "none.wav: " in refused(capsys, "hyp.rttm", "--audio", "none.wav")
    assert "none.npz: cannot be read" in refused(capsys, "hyp.rttm", "--posteriors", "none.npz")
    assert main(["view", "hyp.rttm", "-o", "none/p.html"]) == 1
    assert "none/p.html: there is no folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--audio", "talk.wav"], "--audio is one recording, but HYP has 2 sessions; give --man"),
        (["--posteriors", "npz/talk.npz"], "--posteriors is one file, but HYP has 2 sessions"),
    ],
)
def test_one_file_for_several_sessions_is_refused(
    given: list[str], told: str, capsys: pytest.CaptureFixture
) -> None:
    write_rttm("both.rttm", {"talk": FOUND, "more": FOUND})
    with pytest.raises(SystemExit) as end:
        main(["view", "both.rttm", *given, "-o", "p.html"])
    assert end.value.code == 2
    assert told in capsys.readouterr().err
