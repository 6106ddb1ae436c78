"""The checkpoints of a run: where it can be resumed, and where it was best."""

import math
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.plugins import TorchCheckpointIO

from diarize.errors import CheckpointError, DiarizeError
from diarize.files import replacing
from diarize.sharding import whole

TERMINATED = 128 + signal.SIGTERM
"""Exit status of a run that ends on SIGTERM, as shells have it."""


class Checkpoints(Callback):
    """Writes ``last.ckpt`` every so many steps, and ``best.ckpt`` at the lowest validation DER.

    Both come after the validation of their step, so that a run resumed from ``last.ckpt`` has
    neither to repeat nor to miss one. The last step of a run is always validated and saved. A run
    that diverges is stopped before it is: the loss tells of the weights before a step, so that
    those after it are looked at as well where they are to be validated or saved.

    SIGTERM, by which clusters announce that they take a machine back, ends a run after its step:
    that is saved, though after its validation if it has one, and the status is `TERMINATED`.

    Args:
        folder: of both files.
        every: steps between writings of ``last.ckpt``.
        validate_every: steps between validations; None where nothing is validated.
        keep_every: steps between writings of ``step-N.ckpt``, which stay; None writes none.
    """

    def __init__(
        self, folder: Path, every: int, validate_every: int | None, keep_every: int | None = None
    ) -> None:
        self._folder, self._every, self._validate_every = folder, every, validate_every
        self._keep_every = keep_every
        self._best = float("inf")
        self._terminated = self._stops = False
        """Whether SIGTERM came to this process, and whether all stop since it came to one."""

    def setup(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        """Remove what a killed run left half written."""
        if trainer.is_global_zero:
            for half in self._folder.glob(".*.ckpt.*.tmp"):
                half.unlink()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Take SIGTERM; when all is over, Lightning gives it back to whoever had it."""

        def terminate(*_: Any) -> None:
            self._terminated = True

        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminate)

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """End, if that is due, now that the step before is validated, saved and told.

        Raises:
            SystemExit: in every process, after SIGTERM in one of them.
        """
        if self._stops:
            if trainer.is_global_zero:
                told = f"step {trainer.global_step}/{trainer.max_steps}: saved, for SIGTERM came. "
                print(f"{told}Go on with --resume.", file=sys.stderr)
            raise SystemExit(TERMINATED)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Save, unless the step is validated first.

        Raises:
            DiarizeError: in every process, if the loss or a weight is no number in one of them.
        """
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        validates = stepped and self._is_due(trainer, self._validate_every)
        saves = stepped and any(
            self._is_due(trainer, every) for every in (self._every, self._keep_every)
        )
        loss = float(outputs["loss"])
        sound = math.isfinite(loss) and (not (validates or saves) or _is_finite(module))
        goes_on = sound and not (stepped and self._terminated)
        self._stops = not trainer.strategy.reduce_boolean_decision(goes_on)
        if self._stops and not trainer.strategy.reduce_boolean_decision(sound):
            found = f"the loss is {loss:g}" + (
                ", but training needs a finite one"
                if not math.isfinite(loss)
                else " and weights are no longer numbers, but training needs finite ones"
            )
            raise DiarizeError(
                f"step {trainer.global_step}: {found}. "
                f"Lower optimizer.learning_rate, perhaps from init={self._folder.parent}."
            )
        if stepped and self._ends(trainer):
            # Lightning validates what stops, also where it is no multiple of the interval.
            trainer.should_stop = True
        if (saves or self._stops) and not validates:
            self._save(trainer)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Save as best where it is, and as last where it is time."""
        error = float(trainer.callback_metrics["val_der"])
        if error < self._best:
            self._best = error
            trainer.save_checkpoint(self._folder / "best.ckpt")
        self._save(trainer)

    def state_dict(self) -> dict[str, Any]:
        """The lowest DER so far, percent."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on comparing with the lowest DER so far."""
        self._best = state_dict["best"]

    def _save(self, trainer: pl.Trainer) -> None:
        """Save what is due."""
        if self._is_due(trainer, self._keep_every):
            trainer.save_checkpoint(self._folder / f"step-{trainer.global_step}.ckpt")
        if self._is_due(trainer, self._every) or self._stops:
            self._save_last(trainer)

    def _save_last(self, trainer: pl.Trainer) -> None:
        trainer.save_checkpoint(self._folder / "last.ckpt")

    def _is_due(self, trainer: pl.Trainer, every: int | None) -> bool:
        return every is not None and (self._ends(trainer) or trainer.global_step % every == 0)

    @staticmethod
    def _ends(trainer: pl.Trainer) -> bool:
        return trainer.global_step >= trainer.max_steps


def _is_finite(module: pl.LightningModule) -> bool:
    """Whether all weights, and the averages kept beside them, are numbers."""
    tensors = module.state_dict().values()
    return all(bool(whole(t.isfinite().all())) for t in tensors if t.is_floating_point())


class WholeFiles(TorchCheckpointIO):
    """Checkpoints that are there as a whole or not at all, also if the process is killed."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write beside the file, then take its place.

        Raises:
            CheckpointError: if it cannot be written; what was there before is still there.
        """
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            with replacing(path) as beside, beside.open("wb") as file:
                torch.save(checkpoint, file)
        except (OSError, RuntimeError) as error:
            # torch only tells of a place in the file; what the system said is the cause of that.
            cause = error if isinstance(error, OSError) else error.__context__
            if not isinstance(cause, OSError):
                raise
            raise CheckpointError(
                f"{path}: cannot be written ({cause.strerror}), but what was saved before is "
                "intact. Make room, then go on with --resume."
            ) from None
