"""How long a run lasts, what it does on its way, and the devices it has: Lightning's trainer."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments import SLURMEnvironment, TorchElasticEnvironment
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies import DDPStrategy, Strategy

from diarize.averaging import MovingAverage
from diarize.config import check_choice, check_least, check_shares
from diarize.errors import ConfigError
from diarize.saving import Checkpoints, WholeFiles
from diarize.sharding import Sharding
from diarize.steplog import MetricsTable, StepLog

STRATEGIES = ("auto", "ddp", "fsdp")
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


@dataclass
class TrainerConfig:
    """How long, how often, on what."""

    max_steps: int = 1000
    """Optimizer steps of the whole run."""
    validate_every: int = 200
    """Steps between validations; the last step is always validated."""
    checkpoint_every: int = 100
    """Steps between writings of last.ckpt; the last step is always written."""
    keep_every: int | None = None
    """Steps between checkpoints that stay, as step-N.ckpt, for `diarize average`; null keeps
    none."""
    ema_decay: float = 0.0
    """Share of a moving average of the weights that each step leaves as it was: 0.999 averages
    about the last thousand. The average is what is validated and saved as the model. 0 has none."""
    log_every: int = 20
    """Steps between log lines."""
    accumulate: int = 1
    """Batches per step on each device, one after the other: the gradient is that of all of them,
    at the memory of one. Steps, and whatever is counted in them, stay those of the optimizer."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient; 0 leaves it as it is."""
    precision: str = "auto"
    """32-true, bf16-mixed or 16-mixed; "auto" is bf16-mixed where the GPU has it, else 32-true."""
    recompute: bool = False
    """Keep of each layer its input alone, and compute the rest again in the backward pass: long
    windows or large models then fit, for about half more time. Freed memory is returned to the
    system, too. Gradients are the same."""
    compile: bool = False
    """Let torch.compile fuse what a layer does. The first steps take minutes, and again where
    batches are of other lengths; later ones may be faster. What is compiled rounds differently."""
    strategy: str = "auto"
    """How devices work together. ``ddp``: each has the whole model, and gradients are averaged;
    ``fsdp``: each keeps a share of weights, gradients and moments, for models that one cannot hold;
    ``auto`` is ddp where there are several, else nothing."""
    devices: int = 1
    """Devices, or processes, on each node."""
    num_nodes: int = 1
    """Machines."""

    def __post_init__(self) -> None:
        check_least(self, max_steps=1, validate_every=1, checkpoint_every=1, log_every=1)
        check_least(self, keep_every=1)
        check_shares(self, "ema_decay")
        check_least(self, accumulate=1, gradient_clip=0, devices=1, num_nodes=1)
        check_choice("strategy", self.strategy, STRATEGIES)
        check_choice("precision", self.precision, PRECISIONS)
        if self.strategy == "fsdp" and self.ema_decay:
            raise ConfigError(
                f"strategy is 'fsdp', but ema_decay is {self.ema_decay:g}, and an average is kept "
                "whole by every device. Set ema_decay=0, or strategy=ddp."
            )
        if self.strategy == "fsdp" and self.precision == "16-mixed":
            raise ConfigError(
                "strategy is 'fsdp', but precision is '16-mixed', whose scaling of gradients does "
                "not know shares. Choose bf16-mixed, or strategy=ddp."
            )


def make_trainer(
    settings: TrainerConfig, output: Path, seed: int, validates: bool, rests: bool = False
) -> pl.Trainer:
    """The trainer of a run.

    Args:
        settings: of the run.
        output: the experiment's folder.
        seed: of the run.
        validates: whether there is something to validate.
        rests: whether a weight may have no part in a step.

    Raises:
        ConfigError: if devices are asked for that are not there, or others than were started.
    """
    _check_devices(settings.devices)
    launcher = _check_launcher(settings)
    validate_every = settings.validate_every if validates else None
    return pl.Trainer(
        max_steps=settings.max_steps,
        max_epochs=-1,
        # Counted in batches.
        val_check_interval=validate_every and validate_every * settings.accumulate,
        check_val_every_n_epoch=None if validates else 1,
        limit_val_batches=1.0 if validates else 0,
        num_sanity_val_steps=0,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=settings.gradient_clip,
        precision=_precision(settings.precision),
        accelerator="auto",
        strategy=_strategy(settings, rests),
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        use_distributed_sampler=False,
        log_every_n_steps=min(settings.log_every, settings.max_steps),
        logger=[
            MetricsTable(output / "metrics.csv"),
            TensorBoardLogger(output, "", "tensorboard", default_hp_metric=False),
        ],
        callbacks=[
            *([MovingAverage(settings.ema_decay)] if settings.ema_decay else []),
            Checkpoints(
                output / "checkpoints",
                settings.checkpoint_every,
                validate_every,
                settings.keep_every,
            ),
            StepLog(seed, settings.log_every),
        ],
        # Its own way to queue up again would save elsewhere; see recipes/slurm.
        plugins=[
            WholeFiles(),
            *([SLURMEnvironment(auto_requeue=False)] if launcher == "SLURM" else []),
        ],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _check_devices(wanted: int) -> None:
    """See that there are so many GPUs, where there are any; a CPU runs any number of processes."""
    present = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if 0 < present < wanted:
        raise ConfigError(
            f"trainer.devices is {wanted}, but this machine has {present} "
            f"GPU{'s' if present > 1 else ''}. Lower it."
        )


def _check_launcher(settings: TrainerConfig) -> str | None:
    """See that as many processes were started as train together; what started them, if anything.

    Else each of them would train alone, and write over what the others wrote.
    """
    if TorchElasticEnvironment.detect():
        launcher, total, each = "torchrun", "WORLD_SIZE", "LOCAL_WORLD_SIZE"
    elif SLURMEnvironment.detect():
        launcher, total, each = "SLURM", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE"
    else:
        return None
    started = int(os.environ[total])
    devices = int(os.environ.get(each, started))
    nodes = started // devices
    if (devices, nodes) != (settings.devices, settings.num_nodes):
        raise ConfigError(
            f"trainer.devices is {settings.devices} and trainer.num_nodes {settings.num_nodes}, "
            f"but {launcher} started {started} processes, {devices} on each node. "
            f"Set trainer.devices={devices} trainer.num_nodes={nodes}."
        )
    return launcher


def _strategy(settings: TrainerConfig, rests: bool) -> str | Strategy:
    count = settings.devices * settings.num_nodes
    if settings.strategy == "fsdp":
        return Sharding(count)
    if rests and (count > 1 or settings.strategy == "ddp"):
        return DDPStrategy(find_unused_parameters=True)
    return settings.strategy


def _precision(wanted: str) -> Any:
    if wanted != "auto":
        return wanted
    # Older GPUs emulate bfloat16, slower than they are in float32.
    supported = torch.cuda.is_available() and torch.cuda.is_bf16_supported(
        including_emulation=False
    )
    return "bf16-mixed" if supported else "32-true"
