"""What a run tells while it goes: a line now and then, and the same as a table."""

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile
from runs import TINY, Material, Run, table
from tones import SAMPLE_RATE, write_lines

from diarize.formats.rttm import write_rttm
from diarize.manifest import read_manifest, reference_turns
from diarize.optimizer import OptimizerConfig, learning_rate_factor
from diarize.steplog import MetricsTable
from diarize.training import train
from diarize.turns import Turn

pytestmark = pytest.mark.usefixtures("one_thread")


def test_run_says_what_matters_and_no_more(whole: Run) -> None:
    number = r"\d+\.\d+"
    losses = rf"loss {number}, permutation_invariant_loss {number}, sort_loss {number}"
    step = rf"step (\d+)/10: {losses}; \d+ x real time, data wait {number}%"
    validated = rf"step (\d+)/10: val_der {number}, val_loss {number}"
    said = [re.fullmatch(f"{step}|{validated}", line) for line in whole.lines]
    assert all(said), whole.lines
    assert [line[1] for line in said if line and line[1]] == ["2", "4", "6", "8", "10"]
    assert [line[2] for line in said if line and line[2]] == ["4", "8", "10"]


class Terminal(io.StringIO):
    """What is written to it, as a terminal gets it."""

    def isatty(self) -> bool:
        return True


def test_terminal_shows_a_bar_and_lines_above_it(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    settings = material.settings(data__validation="null", trainer__max_steps=3)
    train([TINY], settings, tmp_path / "exp")
    shown = terminal.getvalue()
    assert "0/3 [" in shown and "step/s" in shown
    assert "\rstep 2/3: loss" in shown
    assert shown.endswith("\r")  # the bar is taken away


def test_speakers_without_a_slot_are_reported(
    material: Material, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    settings = material.settings(
        diarizer__num_slots=1, trainer__max_steps=2, data__simulation__independent_share=1.0
    )
    train([TINY], settings, tmp_path / "exp")
    said = re.findall(r"(\d+) of (\d+) speakers dropped, beyond 1 slots", capsys.readouterr().err)
    (trained, of_trained), (validated, of_validated) = [tuple(map(int, s)) for s in said]
    assert 0 < trained < of_trained <= 8
    truth = [
        len({t.speaker for t in reference_turns(s)}) for s in read_manifest(material.validation)
    ]
    assert (validated, of_validated) == (sum(truth) - len(truth), sum(truth))
    row = table(tmp_path / "exp")[-1]
    assert float(row["train_dropped_speakers"]) == trained
    assert float(row["val_dropped_speakers"]) == validated


# ---- the table


def test_table_has_a_row_per_logged_step(whole: Run) -> None:
    rows = table(whole.folder)
    assert [row["step"] for row in rows] == ["2", "4", "6", "8", "10"]
    assert [row["step"] for row in rows if row["val_der"]] == ["4", "8", "10"]
    for row in rows:
        assert 0 <= float(row["data_wait"]) <= 1
        halves = float(row["train_sort_loss"]) + float(row["train_permutation_invariant_loss"])
        assert float(row["train_loss"]) == pytest.approx(halves / 2, rel=1e-4)
    rates = [float(row["learning_rate"]) for row in rows]
    config = OptimizerConfig(warmup_steps=3)
    expected = [1e-3 * learning_rate_factor(step, config, 10) for step in (1, 3, 5, 7, 9)]
    assert rates == pytest.approx(expected, rel=1e-4)


def test_table_of_a_resumed_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = MetricsTable(path)
    first.log_metrics({"loss": 2.0, "epoch": 0}, step=1)
    first.log_metrics({"loss": 1.5}, step=3)
    first.log_metrics({"der": 40.0}, step=3)
    first.log_metrics({"loss": 9.0}, step=5)
    second = MetricsTable(path)
    second.log_metrics({"loss": 1.25, "wait": 0.5}, step=5)
    assert path.read_text().splitlines() == [
        "step,der,loss,wait",
        "2,,2,",
        "4,40,1.5,",
        "6,,1.25,0.5",
    ]


def test_table_is_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    metrics = MetricsTable(path)
    metrics.log_metrics({"loss": 2.0}, step=0)
    first = path.stat().st_ino
    metrics.log_metrics({"loss": 1.5}, step=1)
    metrics.log_metrics({"loss": 0.125}, step=1)  # a row that has become longer, and shorter
    metrics.log_metrics({"loss": 1.0}, step=1)
    metrics.log_metrics({"loss": 0.5}, step=2)
    assert path.stat().st_ino == first
    assert path.read_text().splitlines() == ["step,loss", "1,2", "2,1", "3,0.5"]
    metrics.log_metrics({"der": 9.0}, step=2)
    metrics.log_metrics({"loss": 0.25}, step=3)
    assert path.read_text().splitlines() == ["step,der,loss", "1,,2", "2,,1", "3,9,0.5", "4,,0.25"]


def test_half_a_row_is_no_row(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text("step,loss\n9,2\n10,1\n1", newline="\r\n")
    MetricsTable(path).log_metrics({"loss": 1.5}, step=10)
    assert path.read_text().splitlines() == ["step,loss", "9,2", "10,1", "11,1.5"]


def test_padding_and_noise_are_reported(
    material: Material, a_session: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """An epoch has a session of 1 s, one of 2 s, and two windows of one that two speakers fill."""
    lines = []
    for number, length in enumerate((1.0, 2.0, 4.0)):
        waveform, turns = a_session(2, length)
        soundfile.write(tmp_path / f"s{number}.wav", waveform, SAMPLE_RATE)
        duet = [Turn(0.0, 4.0, "ann"), Turn(0.0, 4.0, "bob")]
        write_rttm(tmp_path / f"s{number}.rttm", {f"s{number}": duet if length == 4 else turns})
        line = {"audio_filepath": f"s{number}.wav", "rttm_filepath": f"s{number}.rttm"}
        lines.append(line)
    sessions = write_lines(tmp_path / "sessions.jsonl", lines)
    settings = material.settings(
        data__utterances="null",
        data__validation="null",
        data__sessions=sessions,
        data__window=2.0,
        data__batch_size=4,
        trainer__max_steps=2,
    )
    train([TINY], settings, tmp_path / "exp")
    said = capsys.readouterr().err
    assert "; padding 12.5%; noise for 4 of 8 windows, which may begin nowhere\n" in said
    assert float(table(tmp_path / "exp")[-1]["padding"]) == 0.125
