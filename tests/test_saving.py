"""The checkpoints of a run: whole, the best by DER, and never of a run that diverged."""

import re
import resource
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, BinaryIO

import pytest
import torch
from runs import TINY, Material, Run, in_another_process, kill, stored, table

from diarize import module, saving
from diarize.checkpoint import load_checkpoint
from diarize.cli import main
from diarize.errors import DiarizeError
from diarize.saving import Checkpoints
from diarize.training import train

# A forked process is killed here as it saves.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),
]


def test_best_checkpoint_has_the_lowest_der(whole: Run) -> None:
    best = stored(whole.folder / "checkpoints" / "best.ckpt")
    errors = {
        int(row["step"]): float(row["val_der"]) for row in table(whole.folder) if row["val_der"]
    }
    assert best["global_step"] == min(errors, key=lambda step: (errors[step], step))
    assert best["callbacks"]["Checkpoints"]["best"] == pytest.approx(min(errors.values()), rel=1e-5)


def test_run_without_validation_keeps_the_last(material: Material, tmp_path: Path) -> None:
    settings = material.settings(data__validation="null", trainer__max_steps=2)
    result = train([TINY], settings, tmp_path / "exp")
    assert result == tmp_path / "exp" / "checkpoints" / "last.ckpt"
    assert stored(result)["global_step"] == 2
    assert not result.with_name("best.ckpt").exists()
    load_checkpoint(tmp_path / "exp")


def test_checkpoint_is_whole_or_not_there(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "exp"
    settings = material.settings(data__validation="null", trainer__max_steps=2)
    save = torch.save

    def killed() -> None:
        def half(content: Any, file: BinaryIO) -> None:
            save(content, file)
            file.truncate(1000)
            kill()

        monkeypatch.setattr(torch, "save", half)
        train([TINY], settings, folder)

    assert in_another_process(killed) == -signal.SIGKILL
    (half,) = (folder / "checkpoints").iterdir()
    assert half.name.startswith(".last.ckpt")
    train([TINY], settings, folder, resume=True)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["last.ckpt"]


def test_a_run_that_diverges_stops(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverged(*args: Any) -> tuple[torch.Tensor, dict]:
        return args[0].sum() * float("nan"), {}

    monkeypatch.setattr(module, "diarization_loss", diverged)
    with pytest.raises(DiarizeError, match=r"step 1: the loss is nan, but .* Lower optimizer\.lea"):
        train([TINY], material.settings(trainer__checkpoint_every=1), tmp_path / "exp")
    assert not (tmp_path / "exp" / "checkpoints" / "last.ckpt").exists()


@pytest.mark.parametrize(
    "due",
    [
        {"trainer__checkpoint_every": 1, "data__validation": "null"},
        {"trainer__validate_every": 1, "trainer__checkpoint_every": 5},
    ],
    ids=["saved", "validated"],
)
def test_weights_that_are_no_numbers_are_neither_validated_nor_saved(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, due: dict
) -> None:
    def diverged(*args: Any) -> tuple[torch.Tensor, dict]:
        """A finite loss whose gradient is not: the root's at 0 is infinite."""
        return 1 + (args[0].sum() * 0).sqrt(), {}

    monkeypatch.setattr(module, "diarization_loss", diverged)
    message = r"step 1: the loss is 1 and weights are no longer numbers, but .* Lower optimizer\."
    with pytest.raises(DiarizeError, match=message):
        train([TINY], material.settings(**due), tmp_path / "exp")
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_run_stops_in_every_process(tmp_path: Path) -> None:
    """Else one tells what happened, and the others wait for it."""
    heard = []

    def reduced(sound: bool) -> bool:
        heard.append(sound)
        return False  # another process met it

    strategy = SimpleNamespace(reduce_boolean_decision=reduced)
    trainer: Any = SimpleNamespace(
        global_step=3, max_steps=9, accumulate_grad_batches=1, strategy=strategy
    )
    outputs = {"loss": torch.tensor(0.5)}
    with pytest.raises(DiarizeError, match="step 3: the loss is 0.5 and weights are no longer"):
        Checkpoints(tmp_path, 5, None).on_train_batch_end(
            trainer, torch.nn.Linear(1, 1), outputs, None, 2
        )
    assert heard == [True, True]  # it went on by itself, and its weights were sound


def test_full_disk_leaves_the_checkpoint_before(material: Material, tmp_path: Path) -> None:
    """From step 6 on, no file may be longer than half a checkpoint."""
    folder, log = tmp_path / "exp", tmp_path / "log"
    settings = material.settings(
        trainer__checkpoint_every=2, trainer__max_steps=6, data__validation="null"
    )
    write = saving.WholeFiles.save_checkpoint

    def full() -> None:
        def limited(files: saving.WholeFiles, checkpoint: dict, path: Path, **more: Any) -> None:
            if checkpoint["global_step"] == 6:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
            write(files, checkpoint, path, **more)

        saving.WholeFiles.save_checkpoint = limited  # type: ignore[method-assign]
        with log.open("w") as sys.stderr:
            status = main(["train", str(TINY), *settings, "--output", str(folder)])
        sys.exit(status)

    assert in_another_process(full) == 1
    last = folder / "checkpoints" / "last.ckpt"
    assert last.stat().st_size > 200_000
    said = rf"{last}: cannot be written \(File too large\), but what was saved before is intact\."
    assert re.search(said, log.read_text().splitlines()[-1])
    assert list(last.parent.iterdir()) == [last]  # and nothing half written
    assert stored(last)["global_step"] == 4
    load_checkpoint(last)
    assert train([TINY], settings, folder, resume=True) == last
    assert stored(last)["global_step"] == 6
