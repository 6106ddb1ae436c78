"""Training: a thin Lightning module, its data, and an experiment that can be resumed.

Step ``k`` of a run sees the sessions and the random numbers that (seed, k) decide, so a run
that was killed and resumed ends with the weights of one that was not.
"""

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, LearningRateMonitor, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchmetrics import Metric

from diarize.checkpoint import initialize
from diarize.config import load_config, to_dict
from diarize.data import (
    Batch,
    Collate,
    Example,
    MixedDataset,
    SessionDataset,
    SimulatedDataset,
    StreamSampler,
)
from diarize.errors import ConfigError
from diarize.experiment import open_experiment
from diarize.losses import LossConfig, diarization_loss
from diarize.manifest import read_manifest
from diarize.memory import keep_freed_memory
from diarize.model import Diarizer, DiarizerConfig
from diarize.postprocess import PostprocessConfig, to_turns
from diarize.score import DiarizationError, score
from diarize.simulate import SimulationConfig, Simulator
from diarize.voices import VoiceLoss


@dataclass
class DataConfig:
    """What a run learns from."""

    utterances: str | None = None
    """Manifest of single-speaker utterances to simulate sessions from."""
    noise: str | None = None
    """Manifest of background noises for the simulation."""
    rir: str | None = None
    """Manifest of room responses for the simulation."""
    sessions: str | None = None
    """Manifest of recorded sessions with references."""
    recorded_share: float = 0.5
    """Share of recorded windows, where both kinds are given."""
    window: float = 30.0
    """Seconds of a recorded training window."""
    validation: str | None = None
    """Manifest of sessions with references, whose DER chooses the best checkpoint."""
    validation_window: float | None = None
    """Seconds of a validation window; null validates whole sessions."""
    batch_size: int = 8
    """Sessions per step and device."""
    num_workers: int = 2
    """Processes that prepare batches; 0 prepares them in the training process."""
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    """How simulated sessions go and sound."""


@dataclass
class OptimizerConfig:
    """AdamW and its learning rate over the steps."""

    learning_rate: float = 1e-3
    """Peak, reached at the end of the warm-up."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.98])
    """Decay rates of AdamW's moments."""
    weight_decay: float = 1e-3
    """Decoupled decay of matrices; biases, norms and other vectors have none."""
    warmup_steps: int = 500
    """Steps of linear rise."""
    schedule: str = "cosine"
    """"cosine" falls to a hundredth at the last step, "inverse_sqrt" with the root of the step."""


@dataclass
class TrainerConfig:
    """How long, how often, on what."""

    max_steps: int = 1000
    """Optimizer steps of the whole run."""
    validate_every: int = 200
    """Steps between validations."""
    checkpoint_every: int = 100
    """Steps between writings of last.ckpt."""
    log_every: int = 20
    """Steps between log lines."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient."""
    precision: str = "auto"
    """"auto" is bf16 where the GPU has it, else 32-bit; or any precision of Lightning."""
    devices: int = 1
    """Devices, or processes, on each node."""
    num_nodes: int = 1
    """Machines."""


@dataclass
class TrainingConfig:
    """A whole run, as exp/NAME/config.yaml keeps it."""

    seed: int = 0
    """Of weights, sessions and dropout."""
    init: str | None = None
    """Checkpoint whose front end, and all else that fits, the run starts from."""
    voice_weight: float = 0.0
    """Weight of telling the training speakers apart (front end alone)."""
    diarization_weight: float = 1.0
    """Weight of the diarization loss; 0 trains the front end alone."""
    diarizer: DiarizerConfig = field(default_factory=DiarizerConfig)
    """The model."""
    data: DataConfig = field(default_factory=DataConfig)
    """What it learns from."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Sort loss and permutation-invariant loss, blended."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """AdamW and its schedule."""
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    """How long, how often, on what."""
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    """From posteriors to turns, in validation and in the checkpoint."""


class ErrorRate(Metric):
    """DER in percent over everything validated, summed over processes before the division."""

    full_state_update = False
    miss: Tensor
    false_alarm: Tensor
    confusion: Tensor
    scored: Tensor

    def __init__(self) -> None:
        super().__init__()
        for part in ("miss", "false_alarm", "confusion", "scored"):
            self.add_state(part, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, error: DiarizationError) -> None:
        """Add the error seconds of one session."""
        self.miss += error.miss
        self.false_alarm += error.false_alarm
        self.confusion += error.confusion
        self.scored += error.scored

    def compute(self) -> Tensor:
        """Percent; of one second where nothing was scored."""
        wrong = self.miss + self.false_alarm + self.confusion
        return (100 * wrong / self.scored.clamp(min=1.0)).float()


class DiarizationModule(pl.LightningModule):
    """A diarizer with its losses, optimizer and validation DER.

    Args:
        config: the whole run.
        num_voices: training speakers to tell apart; 0 where voices are not trained.
    """

    def __init__(self, config: TrainingConfig, num_voices: int = 0) -> None:
        super().__init__()
        self.config = config
        self.diarizer = Diarizer(config.diarizer)
        width = self.diarizer.front_end.embedding_dim
        self.voices = VoiceLoss(width, num_voices) if num_voices else None
        self.error_rate = ErrorRate()
        self.save_hyperparameters(
            {
                "diarizer_config": to_dict(config.diarizer),
                "postprocess": to_dict(config.postprocess),
                "inference": {"window": config.data.window},
            }
        )

    def _step(self, batch: Batch) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """Loss, logits (B, T, S) where they are trained, and the parts of the loss."""
        config = self.config
        embedding, num_frames = self.diarizer.embed(batch.waveform, batch.num_samples)
        loss, logits, parts = embedding.new_zeros((), dtype=torch.float32), None, {}
        if self.voices is not None and self.training:
            parts["voice_loss"] = self.voices(embedding, batch.voice)
            loss = loss + config.voice_weight * parts["voice_loss"]
        if config.diarization_weight:
            logits = self.diarizer.classify(embedding, num_frames)
            value, detail = diarization_loss(logits, batch.activity, num_frames, config.loss)
            parts |= detail
            loss = loss + config.diarization_weight * value
        return loss, logits, parts

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Loss of one batch; its parts go to the log."""
        loss, _, parts = self._step(batch)
        values = {f"train_{name}": value.detach() for name, value in parts.items()}
        values["train_dropped_speakers"] = torch.tensor(float(batch.dropped_speakers))
        self.log_dict({"train_loss": loss.detach(), **values}, batch_size=len(batch.turns))
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """DER of one batch, through the post-processing and the scorer that users run."""
        loss, logits, _ = self._step(batch)
        if logits is None:
            return
        self.log("val_loss", loss, batch_size=len(batch.turns), sync_dist=True)
        shift = self.diarizer.grid.frame_shift
        for row, posterior in enumerate(logits.sigmoid().float().cpu().numpy()):
            frames = int(batch.num_frames[row])
            hypothesis = to_turns(posterior[:frames], shift, self.config.postprocess)
            self.error_rate.update(score(batch.turns[row], hypothesis))
        self.log("val_der", self.error_rate, prog_bar=True, batch_size=len(batch.turns))

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW; matrices decay, vectors do not; the rate follows the schedule per step."""
        config, steps = self.config.optimizer, self.config.trainer.max_steps
        trained = [p for p in self.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(
            groups, config.learning_rate, (config.betas[0], config.betas[1])
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, config, steps)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def learning_rate_factor(step: int, config: OptimizerConfig, max_steps: int) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then the schedule."""
    warmup = max(config.warmup_steps, 1)
    if step < warmup:
        return (step + 1) / warmup
    if config.schedule == "inverse_sqrt":
        return math.sqrt(warmup / (step + 1))
    progress = min((step - warmup) / max(max_steps - warmup, 1), 1.0)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))


class DiarizationData(pl.LightningDataModule):
    """The run's loaders: simulated and recorded sessions, and those it is validated on.

    Args:
        config: the whole run.
    """

    def __init__(self, config: TrainingConfig) -> None:
        super().__init__()
        self.config = config
        self.voices: dict[str, int] = {}
        data = config.data
        if data.utterances is None and data.sessions is None:
            raise ConfigError(
                "data.utterances and data.sessions are both null, but training needs one. "
                "Give data.utterances=MANIFEST (simulation) or data.sessions=MANIFEST."
            )
        count = config.trainer.max_steps * data.batch_size * config.trainer.devices
        count *= config.trainer.num_nodes
        sources: list[Dataset[Example]] = []
        if data.utterances is not None:
            simulator = Simulator.from_manifests(
                data.simulation, data.utterances, data.noise, data.rir, config.seed
            )
            sources.append(SimulatedDataset(simulator.session, count))
            if config.voice_weight:
                self.voices = {name: index for index, name in enumerate(simulator.voices)}
        if data.sessions is not None:
            recorded = read_manifest(data.sessions)
            sources.append(SessionDataset(recorded, data.window, config.seed, count))
        self._train = sources[0]
        if len(sources) == 2:
            self._train = MixedDataset(*sources, data.recorded_share, config.seed)
        self._validation = (
            SessionDataset(read_manifest(data.validation), data.validation_window)
            if data.validation is not None
            else None
        )

    def train_dataloader(self) -> DataLoader[Example]:
        """Batches from the step at which the trainer stands."""
        trainer = self.trainer
        assert trainer is not None
        sampler = StreamSampler(
            self.config.data.batch_size,
            self.config.trainer.max_steps,
            lambda: trainer.global_step,
            trainer.global_rank,
            trainer.world_size,
        )
        return self._loader(self._train, batch_sampler=sampler)

    def val_dataloader(self) -> DataLoader[Example] | list[Any]:
        """Validation sessions in their order; nothing where no manifest is given."""
        if self._validation is None:
            return []
        return self._loader(self._validation, batch_size=self.config.data.batch_size)

    def _loader(self, dataset: Dataset[Example], **batching: Any) -> DataLoader[Example]:
        model = self.trainer.lightning_module.diarizer  # type: ignore[union-attr]
        workers = self.config.data.num_workers
        return DataLoader(
            dataset,
            num_workers=workers,
            collate_fn=Collate(model.grid, model.num_slots, self.voices or None),
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            worker_init_fn=_one_thread,
            **batching,
        )


def _one_thread(worker: int) -> None:
    """Workers share the processors with the training; each takes one thread."""
    torch.set_num_threads(1)


class StepLog(Callback):
    """Seeds each step by its number, and prints a line every so often.

    The line tells the loss, the speech seen per second, and the share of time in which the
    training waited for data.

    Args:
        seed: of the run.
        every: steps between lines.
    """

    def __init__(self, seed: int, every: int) -> None:
        self._seed, self._every = seed, every
        self._ended = self._begun = time.perf_counter()
        self._waited = self._audio = 0.0

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: Batch, index: int
    ) -> None:
        """Draw this step's dropout and dither from (seed, step, rank)."""
        self._waited += time.perf_counter() - self._ended
        self._audio += float(batch.num_samples.sum()) / module.diarizer.grid.sample_rate  # type: ignore[union-attr]
        step = trainer.global_step * trainer.world_size + trainer.global_rank
        torch.manual_seed(self._seed * 1_000_003 + step)

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Batch, index: int
    ) -> None:
        """Print a line where it is time."""
        now = self._ended = time.perf_counter()
        if trainer.global_step % self._every or not trainer.is_global_zero:
            return
        seconds = max(now - self._begun, 1e-9)
        parts = [
            f"{name.removeprefix('train_')} {float(value):.4f}"
            for name, value in sorted(trainer.callback_metrics.items())
            if name.startswith("train_") and not name.endswith("speakers")
        ]
        if "val_der" in trainer.callback_metrics:
            parts.append(f"val_der {float(trainer.callback_metrics['val_der']):.2f}")
        wait = self._waited / seconds
        print(
            f"step {trainer.global_step}/{trainer.max_steps}: {', '.join(parts)}; "
            f"{self._audio / seconds:.0f} x real time, data wait {wait:.1%}",
            file=sys.stderr,
            flush=True,
        )
        module.log("data_wait", wait)
        self._begun, self._waited, self._audio = now, 0.0, 0.0


def train(
    configs: Sequence[str | Path], overrides: Sequence[str], output: str | Path, resume: bool = False
) -> Path:
    """Run, or go on with, an experiment.

    Args:
        configs: YAML files of differences from ``TrainingConfig``.
        overrides: ``key=value``.
        output: the experiment's folder; refused where it exists and ``resume`` is not asked.
        resume: continue from ``checkpoints/last.ckpt``.

    Returns:
        The best checkpoint by validation DER, or the last where nothing was validated.

    Raises:
        ConfigError: for a bad setting, or a resumed run whose settings differ.
    """
    keep_freed_memory()
    config = load_config(TrainingConfig, configs, overrides)
    output = Path(output)
    open_experiment(output, config, resume)
    last = output / "checkpoints" / "last.ckpt"
    pl.seed_everything(config.seed, verbose=False)
    data = DiarizationData(config)
    module = DiarizationModule(config, len(data.voices))
    if config.init is not None:
        initialize(module.diarizer, config.init)
    trainer = _trainer(config, output)
    trainer.fit(
        module, data, ckpt_path=last if resume and last.exists() else None, weights_only=True
    )
    best = output / "checkpoints" / "best.ckpt"
    return best if best.exists() else last


def _trainer(config: TrainingConfig, output: Path) -> pl.Trainer:
    settings, checkpoints = config.trainer, output / "checkpoints"
    callbacks: list[Callback] = [
        StepLog(config.seed, settings.log_every),
        LearningRateMonitor("step"),
        ModelCheckpoint(
            checkpoints,
            "last",
            every_n_train_steps=settings.checkpoint_every,
            enable_version_counter=False,
        ),
    ]
    validates = config.data.validation is not None and config.diarization_weight > 0
    if validates:
        callbacks.append(
            ModelCheckpoint(checkpoints, "best", "val_der", enable_version_counter=False)
        )
    return pl.Trainer(
        max_steps=settings.max_steps,
        max_epochs=-1,
        val_check_interval=settings.validate_every if validates else None,
        check_val_every_n_epoch=None if validates else 1,
        limit_val_batches=1.0 if validates else 0,
        num_sanity_val_steps=0,
        gradient_clip_val=settings.gradient_clip,
        precision=_precision(settings.precision),
        accelerator="auto",
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        use_distributed_sampler=False,
        log_every_n_steps=settings.log_every,
        logger=[CSVLogger(output, "", "csv"), TensorBoardLogger(output, "", "tensorboard")],
        callbacks=callbacks,
        enable_progress_bar=sys.stderr.isatty(),
        enable_model_summary=False,
    )


def _precision(wanted: str) -> Any:
    if wanted != "auto":
        return wanted
    supported = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return "bf16-mixed" if supported else "32-true"
