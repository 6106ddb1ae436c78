"""What a run tells while it goes: lines on standard error, rows of ``metrics.csv``."""

import csv
import io
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only
from tqdm import tqdm

from diarize.data import Batch
from diarize.files import replacing
from diarize.model import Diarizer

TOLD = ("loss", "accuracy", "perplexity")
"""Ends of the names of what a line has; the table has more."""


class StepLog(Callback):
    """Seeds each step by its number, and tells how it goes.

    A line every so often has losses and accuracies, the audio heard per second, the share of time
    in which the training waited for data, how much of the batches was padding where that is worth
    telling, the speakers who were more than the slots, since their speech was no target, and the
    windows that noise stood in for. After each validation there is a line with its DER. On a
    terminal a bar shows how far the run is.

    Args:
        seed: of the run.
        every: steps between lines.
    """

    def __init__(self, seed: int, every: int) -> None:
        self._seed, self._every = seed, every
        self._begun = self._ended = self._paused = 0.0
        self._waited = self._audio = self._rate = 0.0
        self._speakers, self._validated = _Speakers(), _Speakers()
        self._windows = _Windows()
        self._bar = tqdm(disable=True)

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Begin to measure time, and show a bar on a terminal."""
        self._begun = self._ended = time.perf_counter()
        self._bar = tqdm(
            total=trainer.max_steps,
            initial=trainer.global_step,
            unit="step",
            file=sys.stderr,
            leave=False,
            disable=None if trainer.is_global_zero else True,
        )

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Draw this batch's dropout and dither from (seed, step, its number in the step, rank)."""
        self._waited += time.perf_counter() - self._ended
        self._audio += float(batch.num_samples.sum()) / _diarizer(module).grid.sample_rate
        self._rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        many = trainer.accumulate_grad_batches
        number = trainer.global_step * many + batch_idx % many
        number = number * trainer.world_size + trainer.global_rank
        torch.manual_seed(self._seed * 1_000_003 + number)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
    ) -> None:
        """Print a line where it is time."""
        self._speakers.add(batch)
        self._windows.add(batch)
        if (batch_idx + 1) % trainer.accumulate_grad_batches == 0:
            self._bar.update()
            if trainer.global_step % self._every == 0:
                self._tell_steps(trainer, module)
        self._ended = time.perf_counter()

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Take the bar away."""
        self._bar.close()

    def on_exception(
        self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Take the bar away."""
        self._bar.close()

    def _tell_steps(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        now = time.perf_counter()
        seconds = max(now - self._begun, 1e-9)
        values = sorted(trainer.callback_metrics.items())
        means = [(n[6:], float(v)) for n, v in values if n[:6] == "train_" and n.endswith(TOLD)]
        parts = [f"{name} {value:.4f}" for name, value in means]
        wait = self._waited / seconds
        told = [self._audio, self._speakers.heard, self._speakers.dropped]
        windows = self._windows
        told += [windows.samples, windows.padded, windows.count, windows.noise]
        audio, heard, dropped, *rest = _sums(trainer, told)
        self._speakers = _Speakers(int(heard), int(dropped))
        self._windows = _Windows(*map(int, rest))
        speed = f"{audio / seconds:.0f} x real time, data wait {wait:.1%}"
        notes = self._speakers.note(_diarizer(module).num_slots) + self._windows.notes
        _tell(trainer, "; ".join([", ".join(parts), speed, *notes]))
        module.log("data_wait", wait)
        module.log("padding", self._windows.padding)
        module.log("train_dropped_speakers", float(self._speakers.dropped))
        module.log("learning_rate", self._rate)
        self._begun, self._waited, self._audio = now, 0.0, 0.0
        self._speakers, self._windows = _Speakers(), _Windows()

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Stop the clock of the training."""
        self._paused = time.perf_counter()
        self._validated = _Speakers()

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the speakers."""
        if cast(Any, trainer).datamodule.counts(batch_idx):
            self._validated.add(batch)

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Log how many speakers the slots had no room for."""
        heard, dropped = _sums(trainer, [self._validated.heard, self._validated.dropped])
        self._validated = _Speakers(int(heard), int(dropped))
        module.log("val_dropped_speakers", dropped, sync_dist=True)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Print a line, and let the clock go on."""
        values = trainer.callback_metrics
        parts = [f"{n} {float(values[n]):.{d}f}" for n, d in (("val_der", 2), ("val_loss", 4))]
        notes = self._validated.note(_diarizer(module).num_slots)
        _tell(trainer, "; ".join([", ".join(parts), *notes]))
        now = time.perf_counter()
        self._begun += now - self._paused
        self._ended = now


class _Speakers:
    """How many were heard, and how many of them had no slot."""

    def __init__(self, heard: int = 0, dropped: int = 0) -> None:
        self.heard, self.dropped = heard, dropped

    def add(self, batch: Batch) -> None:
        self.heard += batch.num_speakers
        self.dropped += batch.dropped_speakers

    def note(self, num_slots: int) -> list[str]:
        """In words, where there is something to tell."""
        if not self.dropped:
            return []
        return [f"{self.dropped} of {self.heard} speakers dropped, beyond {num_slots} slots"]


class _Windows:
    """How much of the batches was padding, and how many windows were noise."""

    def __init__(self, samples: int = 0, padded: int = 0, count: int = 0, noise: int = 0) -> None:
        self.samples, self.padded, self.count, self.noise = samples, padded, count, noise

    def add(self, batch: Batch) -> None:
        self.count += len(batch.turns)
        self.noise += batch.stand_ins
        self.samples += int(batch.num_samples.sum())
        self.padded += int(batch.num_samples.max()) * len(batch.turns)

    @property
    def padding(self) -> float:
        """Share of the batches, 0 to 1."""
        return 1.0 - self.samples / max(self.padded, 1)

    @property
    def notes(self) -> list[str]:
        """In words, where there is something to tell."""
        notes = [f"padding {self.padding:.1%}"] if self.padding >= 0.01 else []
        if self.noise:
            notes.append(f"noise for {self.noise} of {self.count} windows, which may begin nowhere")
        return notes


def _sums(trainer: pl.Trainer, values: list[float]) -> list[float]:
    """Of numbers of each rank, the sums over ranks."""
    if trainer.world_size == 1:
        return values
    own = torch.tensor(values, device=trainer.strategy.root_device)
    return cast(torch.Tensor, trainer.strategy.reduce(own, reduce_op="sum")).tolist()


def _diarizer(module: pl.LightningModule) -> Diarizer:
    return cast(Diarizer, module.diarizer)


@rank_zero_only
def _tell(trainer: pl.Trainer, text: str) -> None:
    """A line on standard error, above a progress bar where there is one."""
    tqdm.write(f"step {trainer.global_step}/{trainer.max_steps}: {text}", file=sys.stderr)


class MetricsTable(Logger):
    """What is logged as a CSV table with a row per step, written whenever something is.

    A row is appended, or written over where it is the last; the whole table is written anew for a
    column that it lacks. A resumed run goes on with the table: rows from the step on at which it
    resumes are made again.

    Args:
        path: of the table.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._columns: list[str] = []
        self._row: dict[str, str] = {}
        self._place = 0
        """Byte at which the last row, ``_row``, begins."""

    @property
    def name(self) -> str:
        """What Lightning calls it."""
        return "metrics"

    @property
    def version(self) -> str:
        """There is one."""
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: ``config.yaml`` has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add values to the row of a step, counted from 1 as lines and checkpoints do."""
        number = (step or 0) + 1
        same = self._row.get("step") == str(number)
        before = self._row if same else {"step": str(number)}
        values = {name: f"{value:.6g}" for name, value in metrics.items() if name != "epoch"}
        self._row = before | values
        if not self._path.exists() or not self._columns or {*self._row} - {*self._columns}:
            self._write_all(number)
            return
        with self._path.open("r+b") as file:
            self._place = self._place if same else file.seek(0, os.SEEK_END)
            file.seek(self._place)
            file.write(self._lines([self._row]))
            file.truncate()

    def _write_all(self, number: int) -> None:
        """The table on disk up to a step, and the row of that step."""
        rows = []
        if self._path.exists():
            text = self._path.read_text(encoding="utf-8")
            whole = text[: text.rfind("\n") + 1].splitlines()  # a killed run may leave half a row
            rows = [row for row in csv.DictReader(whole) if int(row["step"]) < number]
        names = {name for row in [*rows, self._row] for name in row}
        self._columns = ["step", *sorted(names - {"step"})]
        with replacing(self._path) as beside:
            header = dict(zip(self._columns, self._columns, strict=True))
            above = self._lines([header, *rows])
            beside.write_bytes(above + self._lines([self._row]))
        self._place = len(above)

    def _lines(self, rows: Sequence[dict[str, str]]) -> bytes:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._columns).writerows(rows)
        return text.getvalue().encode()
