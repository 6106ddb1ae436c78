"""A run that was killed or interrupted, and resumed, ends as one that was not."""

import os
import re
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from runs import TINY, Material, Run, assert_same_run, in_another_process, kill, stored

from diarize.cli import main
from diarize.data import Batch, Collate, Draw, Simulated
from diarize.module import DiarizationModule
from diarize.saving import Checkpoints
from diarize.training import train

# Forked processes are killed here at a step, without the seconds that a new interpreter takes.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),
]


def do_in_step(number: int, sent: signal.Signals) -> None:
    step = DiarizationModule.training_step

    def until(module: DiarizationModule, *batch: Any) -> torch.Tensor:
        if module.trainer.global_step + 1 == number:
            os.kill(os.getpid(), sent)
        return step(module, *batch)

    DiarizationModule.training_step = until  # type: ignore[method-assign]


def kill_in_step(number: int) -> None:
    do_in_step(number, signal.SIGKILL)


def kill_in_validation_of(number: int) -> None:
    step = DiarizationModule.validation_step

    def until(module: DiarizationModule, batch: Any, index: int) -> None:
        step(module, batch, index)
        if module.trainer.global_step == number and index == 1:
            kill()

    DiarizationModule.validation_step = until  # type: ignore[method-assign]


def kill_before_last_of(number: int) -> None:
    """After the best checkpoint was written, before the last."""
    save = Checkpoints._save_last

    def until(checkpoints: Checkpoints, trainer: pl.Trainer) -> None:
        if trainer.global_step == number:
            kill()
        save(checkpoints, trainer)

    Checkpoints._save_last = until  # type: ignore[method-assign]


KILLS = {
    "before the first checkpoint": (kill_in_step, 3, 0),
    "between two checkpoints": (kill_in_step, 9, 6),
    "in validation": (kill_in_validation_of, 8, 6),
    "in the last validation": (kill_in_validation_of, 10, 9),
    "between best and last": (kill_before_last_of, 10, 9),
}


@pytest.mark.parametrize("place", KILLS)
def test_killed_run_ends_as_one_that_was_not(
    place: str, whole: Run, material: Material, tmp_path: Path
) -> None:
    arrange, number, saved = KILLS[place]
    folder = tmp_path / "exp"

    def killed() -> None:
        arrange(number)
        train([TINY], material.settings(), folder)

    assert in_another_process(killed) == -signal.SIGKILL
    last = folder / "checkpoints" / "last.ckpt"
    assert (stored(last)["global_step"] if last.exists() else 0) == saved
    assert train([TINY], material.settings(), folder, resume=True).name == "best.ckpt"
    assert_same_run(folder, whole)
    assert len((folder / "environment.jsonl").read_text().splitlines()) == 2


def test_workers_and_a_validation_at_the_checkpoint(
    whole: Run, material: Material, tmp_path: Path
) -> None:
    """Killed just after a step that was both validated and saved; two workers prepare batches."""
    folder, settings = tmp_path / "exp", material.settings(trainer__checkpoint_every=4)
    workers = [s for s in settings if "num_workers" not in s] + ["data.num_workers=2"]

    def killed() -> None:
        kill_in_step(6)
        train([TINY], workers, folder)

    assert in_another_process(killed) == -signal.SIGKILL
    assert stored(folder / "checkpoints" / "last.ckpt")["global_step"] == 4
    train([TINY], settings, folder, resume=True)  # how many workers there are changes nothing
    assert_same_run(folder, whole)


def test_interrupt_ends_a_run_that_can_go_on(
    whole: Run, material: Material, tmp_path: Path
) -> None:
    """Ctrl-C at the command line: one line, status 130, and the rest by --resume."""
    folder, log = tmp_path / "exp", tmp_path / "log"
    words = ["train", str(TINY), *material.settings(), "--output", str(folder)]

    def interrupted() -> None:
        # A shell's background job, which these tests may be, ignores the signal.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        do_in_step(8, signal.SIGINT)
        with log.open("w") as sys.stdout, log.open("a") as sys.stderr:
            status = main(words)
        sys.exit(status)

    assert in_another_process(interrupted) == 130
    *lines, last = log.read_text().splitlines()
    assert last == "diarize train: interrupted."
    assert all(line.startswith("step ") for line in lines)
    train([TINY], material.settings(), folder, resume=True)
    assert_same_run(folder, whole)


def test_interrupt_handler_is_given_back(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DiarizationModule, "training_step", interrupted)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train([TINY], material.settings(), tmp_path / "exp")
    assert signal.getsignal(signal.SIGINT) is before


def test_finished_run_is_resumed_at_once(whole: Run, material: Material, tmp_path: Path) -> None:
    last = whole.folder / "checkpoints" / "last.ckpt"
    before = last.stat().st_mtime_ns, (whole.folder / "metrics.csv").read_bytes()
    assert train([TINY], material.settings(), whole.folder, resume=True) == whole.result
    assert (last.stat().st_mtime_ns, (whole.folder / "metrics.csv").read_bytes()) == before


def test_resumed_run_needs_no_init(material: Material, whole: Run, tmp_path: Path) -> None:
    (tmp_path / "start").mkdir()
    start = tmp_path / "start" / "init.ckpt"
    start.write_bytes(whole.result.read_bytes())
    settings = material.settings(init=start, trainer__max_steps=2)
    train([TINY], settings, tmp_path / "exp")
    start.unlink()
    train([TINY], settings, tmp_path / "exp", resume=True)


def test_terminated_run_saves_its_step(whole: Run, material: Material, tmp_path: Path) -> None:
    """As clusters end what they want to move: one line, status 143, and the rest by --resume."""
    folder, log = tmp_path / "exp", tmp_path / "log"
    words = ["train", str(TINY), *material.settings(), "--output", str(folder)]

    def terminated() -> None:
        do_in_step(8, signal.SIGTERM)
        with log.open("w") as sys.stderr:
            status = main(words)
        sys.exit(status)

    assert in_another_process(terminated) == 143
    *_, validated, last = log.read_text().splitlines()
    assert validated.startswith("step 8/10: val_der ")  # it has a validation, so that comes first
    assert last == "step 8/10: saved, for SIGTERM came. Go on with --resume."
    assert stored(folder / "checkpoints" / "last.ckpt")["global_step"] == 8
    train([TINY], material.settings(), folder, resume=True)
    assert_same_run(folder, whole)


def test_terminated_with_its_workers(material: Material, tmp_path: Path) -> None:
    """SLURM signals all processes of a task, and those that bring batches are some of them."""
    settings = [s for s in material.settings() if "num_workers" not in s] + ["data.num_workers=2"]
    step = DiarizationModule.training_step

    def terminated() -> None:
        os.setpgrp()

        def until(module: DiarizationModule, batch: Any, number: int) -> torch.Tensor:
            if number == 4:
                os.killpg(0, signal.SIGTERM)
                time.sleep(0.2)  # time for them to die
            return step(module, batch, number)

        DiarizationModule.training_step = until  # type: ignore[method-assign]
        train([TINY], settings, tmp_path / "exp")

    assert in_another_process(terminated) == 143
    assert stored(tmp_path / "exp" / "checkpoints" / "last.ckpt")["global_step"] == 5


def test_terminate_handler_is_given_back(material: Material, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    settings = material.settings(trainer__max_steps=1, data__validation="null")
    train([TINY], settings, tmp_path / "exp")
    assert signal.getsignal(signal.SIGTERM) is before


def test_worker_that_is_killed_ends_the_run_in_one_line(
    material: Material, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    batch = Simulated.batch
    settings = [s for s in material.settings() if "num_workers" not in s] + ["data.num_workers=1"]

    def killed() -> None:
        def until(source: Simulated, draw: Draw, collate: Collate) -> Batch:
            if 9 in draw.numbers:
                kill()
            return batch(source, draw, collate)

        Simulated.batch = until  # type: ignore[method-assign]
        sys.exit(main(["train", str(TINY), *settings, "--output", str(tmp_path / "exp")]))

    assert in_another_process(killed) == 1
    last = capfd.readouterr().err.splitlines()[-1]
    said = r"diarize train: data\.num_workers: DataLoader worker .*, but the run needs all"
    assert re.match(said, last) and last.endswith("then go on with --resume.")
    train([TINY], material.settings(), tmp_path / "exp", resume=True)
