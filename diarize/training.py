"""Training: a thin Lightning module, and an experiment that can be resumed.

Step ``k`` of a run sees the sessions and the random numbers that (seed, k) decide, so a run
that was killed and resumed ends with the weights of one that was not.
"""

import logging
import math
import signal
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics import Metric

from diarize.checkpoint import initialize, read_checkpoint
from diarize.config import check_least, load_config, to_dict
from diarize.data import Batch
from diarize.errors import ConfigError
from diarize.experiment import check_experiment, open_experiment
from diarize.loaders import DataConfig, DiarizationData
from diarize.losses import LossConfig, diarization_loss
from diarize.memory import keep_freed_memory
from diarize.model import Diarizer, DiarizerConfig
from diarize.postprocess import PostprocessConfig, to_turns
from diarize.saving import Checkpoints, WholeFiles
from diarize.score import DiarizationError, score
from diarize.steplog import MetricsTable, StepLog
from diarize.voices import VoiceLoss

SCHEDULES = ("cosine", "inverse_sqrt")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")

USELESS = (
    "The '(train|val)_dataloader' does not have many workers",
    # StreamSampler goes on at the step where the run stopped.
    "You're resuming from a checkpoint that ended before the epoch ended",
    # Lightning's own use of torch.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
)
"""Beginnings of Lightning's warnings that say nothing true or new of a run of ours."""


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

    def __post_init__(self) -> None:
        check_least(self, learning_rate=0, weight_decay=0, warmup_steps=0)
        _check_choice("schedule", self.schedule, SCHEDULES)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(
                f"betas is {list(self.betas)}, but AdamW has 2, each from 0 to below 1. "
                "Write [0.9, 0.98]."
            )


@dataclass
class TrainerConfig:
    """How long, how often, on what."""

    max_steps: int = 1000
    """Optimizer steps of the whole run."""
    validate_every: int = 200
    """Steps between validations; the last step is always validated."""
    checkpoint_every: int = 100
    """Steps between writings of last.ckpt; the last step is always written."""
    log_every: int = 20
    """Steps between log lines."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient; 0 leaves it as it is."""
    precision: str = "auto"
    """32-true, bf16-mixed or 16-mixed; "auto" is bf16-mixed where the GPU has it, else 32-true."""
    devices: int = 1
    """Devices, or processes, on each node."""
    num_nodes: int = 1
    """Machines."""

    def __post_init__(self) -> None:
        check_least(self, max_steps=1, validate_every=1, checkpoint_every=1, log_every=1)
        check_least(self, gradient_clip=0, devices=1, num_nodes=1)
        _check_choice("precision", self.precision, PRECISIONS)


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

    def __post_init__(self) -> None:
        check_least(self, seed=0, voice_weight=0, diarization_weight=0)
        if self.voice_weight == 0 and self.diarization_weight == 0:
            raise ConfigError(
                "voice_weight is 0 and diarization_weight is 0, but a run learns at least one. "
                "Raise one."
            )


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        listed = f"{', '.join(choices[:-1])} or {choices[-1]}"
        raise ConfigError(f"{name} is {value!r}, but it may be {listed}. Choose one.")


class ErrorRate(Metric):
    """DER in percent over everything validated, summed over processes before the division."""

    full_state_update = False
    wrong: Tensor
    scored: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Whole microseconds: sums are exact, also on accelerators without float64.
        for part in ("wrong", "scored"):
            self.add_state(part, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, error: DiarizationError) -> None:
        """Add the error seconds of one session."""
        self.wrong += round((error.miss + error.false_alarm + error.confusion) * 1e6)
        self.scored += round(error.scored * 1e6)

    def compute(self) -> Tensor:
        """Percent; of one second where less was scored."""
        return 100 * self.wrong / self.scored.clamp(min=1_000_000)


class DiarizationModule(pl.LightningModule):
    """A diarizer with its losses, optimizer and validation DER.

    Args:
        config: the whole run.
        voices: training speakers to tell apart; none where voices are not trained.
    """

    def __init__(self, config: TrainingConfig, voices: Sequence[str] = ()) -> None:
        super().__init__()
        self.config = config
        self.diarizer = Diarizer(config.diarizer)
        width = self.diarizer.front_end.embedding_dim
        self.voices = VoiceLoss(width, len(voices)) if voices else None
        self.error_rate = ErrorRate()
        if not config.diarization_weight:
            for part in (self.diarizer.projection, self.diarizer.encoder, self.diarizer.head):
                part.requires_grad_(False)
        self.save_hyperparameters(
            {
                "diarizer_config": to_dict(self.diarizer.config),
                "postprocess": to_dict(config.postprocess),
                "inference": {"window": config.data.window},
                "voices": list(voices),
            }
        )

    def recognise(self, known: Mapping[str, Tensor]) -> int:
        """Take over the class weights (D,) of voices that are trained here too; how many."""
        if self.voices is None:
            return 0
        both = [(i, known[v]) for i, v in enumerate(self.hparams["voices"]) if v in known]
        with torch.no_grad():
            for index, weight in both:
                self.voices.weight[index] = weight
        return len(both)

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
            error = score(batch.turns[row], hypothesis, uem=batch.regions[row])
            self.error_rate.update(error)
        self.log("val_der", self.error_rate, prog_bar=True, batch_size=len(batch.turns))

    def configure_optimizers(self) -> OptimizerLRScheduler:
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


def train(
    configs: Sequence[str | Path],
    overrides: Sequence[str],
    output: str | Path,
    resume: bool = False,
) -> Path:
    """Run, or go on with, an experiment.

    Args:
        configs: YAML files of differences from ``TrainingConfig``.
        overrides: ``key=value``.
        output: the experiment's folder; refused where it exists and ``resume`` is not asked.
        resume: continue from ``checkpoints/last.ckpt``, or begin where there is none.

    Returns:
        The best checkpoint by validation DER, or the last where nothing was validated.

    Raises:
        ConfigError: for a bad setting, or a resumed run whose settings differ.
        DiarizeError: for data or a checkpoint that cannot be used, or a loss that diverges.
        KeyboardInterrupt: on Ctrl-C; the run can be resumed.
    """
    keep_freed_memory()
    for chatter in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(chatter).setLevel(logging.WARNING)
    config = load_config(TrainingConfig, configs, overrides)
    output = Path(output)
    # Of several processes, the first answers for the folder.
    first = getattr(rank_zero_only, "rank", 0) in (None, 0)
    if first:
        check_experiment(output, config, resume)
    last, best = (output / "checkpoints" / name for name in ("last.ckpt", "best.ckpt"))
    resumed = last if resume and last.exists() else None
    torch.manual_seed(config.seed)
    processes = config.trainer.devices * config.trainer.num_nodes
    data = DiarizationData(
        config.data, config.seed, config.trainer.max_steps, processes, config.voice_weight > 0
    )
    module = DiarizationModule(config, list(data.voices))
    if config.init is not None and resumed is None:
        start = read_checkpoint(config.init)
        left = initialize(module.diarizer, start)
        recognised = module.recognise(start.voices)
        if first and left:
            named = ", ".join(left[:3]) + (", …" if len(left) > 3 else "")
            print(f"init: {len(left)} tensors not in {config.init}: {named}", file=sys.stderr)
        if first and data.voices:
            told = f"init: {recognised} of {len(data.voices)} voices known to {config.init}"
            print(told, file=sys.stderr)
    trainer = _trainer(config, output)
    if first:
        device = trainer.strategy.root_device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        open_experiment(output, config, accelerator=f"{processes} x {name}")
    _fit(trainer, module, data, resumed)
    return best if best.exists() else last


def _trainer(config: TrainingConfig, output: Path) -> pl.Trainer:
    settings = config.trainer
    validates = config.data.validation is not None and config.diarization_weight > 0
    validate_every = settings.validate_every if validates else None
    return pl.Trainer(
        max_steps=settings.max_steps,
        max_epochs=-1,
        val_check_interval=validate_every,
        check_val_every_n_epoch=None if validates else 1,
        limit_val_batches=1.0 if validates else 0,
        num_sanity_val_steps=0,
        gradient_clip_val=settings.gradient_clip,
        precision=_precision(settings.precision),
        accelerator="auto",
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        use_distributed_sampler=False,
        log_every_n_steps=min(settings.log_every, settings.max_steps),
        logger=[
            MetricsTable(output / "metrics.csv"),
            TensorBoardLogger(output, "", "tensorboard", default_hp_metric=False),
        ],
        callbacks=[
            Checkpoints(output / "checkpoints", settings.checkpoint_every, validate_every),
            StepLog(config.seed, settings.log_every),
        ],
        plugins=[WholeFiles()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _precision(wanted: str) -> Any:
    if wanted != "auto":
        return wanted
    supported = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
    return "bf16-mixed" if supported else "32-true"


def _fit(
    trainer: pl.Trainer, module: DiarizationModule, data: DiarizationData, resumed: Path | None
) -> None:
    """Train to the end, or until Ctrl-C."""
    on_interrupt = signal.getsignal(signal.SIGINT)
    with warnings.catch_warnings():
        for useless in USELESS:
            warnings.filterwarnings("ignore", useless)
        try:
            trainer.fit(module, data, ckpt_path=resumed, weights_only=True)
        except SystemExit:
            # Lightning's answer to Ctrl-C, after which it ignores the signal.
            if not trainer.interrupted:
                raise
            signal.signal(signal.SIGINT, on_interrupt)
            raise KeyboardInterrupt from None
