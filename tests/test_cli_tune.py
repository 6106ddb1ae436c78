"""`diarize tune`: from manifest to a setting, by way of posteriors that are there or not."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from plateaus import hidden
from staged import refused
from staged import stage as staged

from diarize.cli import main
from diarize.formats.posteriors import Posteriors, read_posteriors, write_posteriors
from diarize.formats.rttm import write_rttm
from diarize.manifest import Session, read_manifest, write_manifest
from diarize.postprocess import PostprocessConfig, load_postprocess, to_turns
from diarize.tune import Labelled


def stage(folder: Path, sessions: list[Labelled], **facts: object) -> list[str]:
    """Write sessions; returns the command that tunes on them."""
    return ["tune", *staged(folder, sessions, **facts), "--draws", "100"]


def test_what_is_promised_is_what_score_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sessions = [hidden(n, 0.7, early=1) for n in range(4)]
    command = stage(tmp_path, sessions, model="mine", weights_sha256="0123456789abcdef")
    output = tmp_path / "made" / "mine.yaml"
    assert main([*command, "-o", str(output), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    config = load_postprocess(output)
    assert config == PostprocessConfig(**found["tuned"])
    for name, tried in (("tuned", config), ("before", PostprocessConfig())):
        turns = {}
        for session in sessions:
            given = session.posteriors
            turns[session.session_id] = to_turns(given.posterior, given.frame_shift, tried)
        write_rttm(tmp_path / f"{name}.out", turns)
        reference, hypothesis = str(tmp_path / "dev.jsonl"), str(tmp_path / f"{name}.out")
        assert main(["score", reference, hypothesis, "--format", "json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert found["der"][name] == pytest.approx(told["results"][0]["total"]["der"], abs=1e-6)
    text = output.read_text()
    assert text.startswith("# Post-processing tuned by diarize for mine (weights 0123456789ab).\n")
    references = told["passport"]["reference"]["sha256"][:12]
    assert f"# sessions: {tmp_path / 'dev.jsonl'}; references {references}\n" in text
    assert "# command: diarize " in text and "# verdict: better on sessions" in text


def test_the_setting_to_beat(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    meant = {"postprocess": {"onset": 0.3, "offset": 0.2}, "window": 90.0}
    command = stage(tmp_path, [hidden(0), hidden(1)], inference=meant, presets={"x": "v1_callhome"})

    def before(*more: str) -> dict[str, float]:
        assert main([*command, "--format", "json", "--folds", "0", *more]) == 0
        return json.loads(capsys.readouterr().out)["before"]

    assert before()["offset"] == 0.2 and before("--onset", "0.7")["onset"] == 0.7
    assert before("--postprocess", "x")["pad_onset"] == 0.23


def test_conditions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = stage(tmp_path, [hidden(0), hidden(1)])
    assert main([*command, "--condition", "fair"]) == 0
    assert "condition: fair (collar 0.25 s" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*command, "--folds", "-1"])


def test_what_does_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    facts = {"model": "mine", "channel": None, "inference": {"window": 90.0, "batch_size": 4}}
    command = stage(tmp_path, [hidden(0), hidden(1)], **facts)
    refused([*command, "--model", "yours"], capsys, "h0.npz: was made with model=mine, not yours")
    refused([*command, "--window", "60"], capsys, r"h0.npz: was made with window=90.0, not 60.0 as")
    message = "h0.npz: is of the mean of all channels, but session 'h0' of .*:1 is of channel 1. Re"
    refused([*command, "--channel", "1"], capsys, message)
    own = read_posteriors(tmp_path / "h1.npz")
    settings = {"window": 90.0, "batch_size": 8, "postprocess": {"onset": 0.3}}
    write_posteriors(tmp_path / "h1.npz", replace(own, made_by=facts | {"inference": settings}))
    assert main([*command, "--folds", "0"]) == 0  # neither decides what posteriors are
    write_posteriors(tmp_path / "h1.npz", replace(own, made_by=facts | {"model": "yours"}))
    refused(command, capsys, r"h1.npz: was made with model=yours, not mine as .*h0.npz, but all")
    wrong = replace(own, posterior=own.posterior[:200], duration=16.0)
    write_posteriors(tmp_path / "h1.npz", wrong)
    message = r"h1.npz: begins at 0.00 s and lasts 16.00 s, but session 'h1' of .*:2 begins at 0.00"
    refused(command, capsys, message)
    coarse = Posteriors(own.posterior[:100], 0.32, 0.0, 32.0, facts)
    write_posteriors(tmp_path / "h1.npz", coarse)
    refused(command, capsys, r"frames of session 'h0' last 0.08 s, but those of 'h1' 0.32 s")
    write_posteriors(tmp_path / "h1.npz", replace(own, posterior=own.posterior * np.nan))
    refused(command, capsys, r"h1.npz: frame 0 .*nan.* but a posterior lies between 0 and 1")


def test_sessions_may_be_of_different_channels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = stage(tmp_path, [hidden(0), hidden(1)], model="mine")
    own = read_posteriors(tmp_path / "h1.npz")
    write_posteriors(tmp_path / "h1.npz", replace(own, made_by={**own.made_by, "channel": 1}))
    message = "h1.npz: is of channel 1, but session 'h1' of .*:2 is of the mean of all channels."
    refused(command, capsys, message)
    first, second = read_manifest(tmp_path / "dev.jsonl")
    write_manifest(tmp_path / "dev.jsonl", [first, replace(second, channel=1)])
    assert main([*command, "--folds", "0"]) == 0


def test_manifests_that_cannot_be_tuned_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = stage(tmp_path, [hidden(0), hidden(1)])
    sessions = [Session("h0", tmp_path / "h0.wav", duration=32.0)]
    write_manifest(tmp_path / "dev.jsonl", sessions)
    refused(command, capsys, r"dev.jsonl:1: session 'h0' has no 'rttm_filepath', but a reference")
    write_manifest(tmp_path / "dev.jsonl", [])
    refused(command, capsys, r"dev.jsonl: no sessions, but at least one is needed")
    sessions = [replace(sessions[0], rttm=tmp_path / "h0.rttm")] * 2
    write_manifest(tmp_path / "dev.jsonl", sessions)
    refused(command, capsys, r"dev.jsonl:2: session id 'h0' is that of .*dev.jsonl:1")
    (tmp_path / "h0.rttm").write_text("")
    write_manifest(tmp_path / "dev.jsonl", sessions[:1])
    refused(command, capsys, r"in 1 sessions no reference speech is scored")


def test_windows_that_would_be_joined_otherwise_are_told_of(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sessions, facts = [hidden(n, 0.3) for n in range(3)], {"inference": {"window": 30.0}}
    for speech, told in ((0.5, True), (0.3, False), (None, False)):
        assert main(stage(tmp_path, sessions, speech=speech, **facts)) == 0
        found = capsys.readouterr()
        assert re.search(r"^onset +0\.5 +0\.3$", found.out, re.MULTILINE)
        assert ("3 of 3 sessions were judged in several windows, and these" in found.err) == told


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "mine.yaml"
    output.write_text("onset: 0.1\n")
    command = stage(tmp_path, [hidden(0)])
    refused([*command, "-o", str(output)], capsys, r"mine.yaml: is there already, but a tuned")
    assert output.read_text() == "onset: 0.1\n"


def test_one_session(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "mine.yaml"
    assert main([*stage(tmp_path, [hidden(0, 0.8)]), "-o", str(output)]) == 0
    assert "verdict: not cross-validated" in capsys.readouterr().out
    assert load_postprocess(output) != PostprocessConfig() and "left out" not in output.read_text()


def test_an_interrupted_search_writes_the_best_so_far(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    output = tmp_path / "mine.yaml"
    monkeypatch.setattr("diarize.tune.search.Search.best", interrupted)
    assert main([*stage(tmp_path, [hidden(0, 0.8)]), "-o", str(output)]) == 130
    assert "the search was interrupted" in capsys.readouterr().out
    assert "# verdict: the search was interrupted" in output.read_text()
    assert load_postprocess(output) != PostprocessConfig()
