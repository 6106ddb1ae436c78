"""Training: an experiment that can be resumed.

Step ``k`` of a run sees the sessions and the random numbers that (seed, k) decide, so a run
that was killed and resumed ends with the weights of one that was not.
"""

import logging
import signal
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only

from diarize.checkpoint import initialize, read_checkpoint
from diarize.config import load_config
from diarize.errors import ConfigError, DiarizeError
from diarize.experiment import check_experiment, open_experiment
from diarize.loaders import DiarizationData
from diarize.memory import keep_freed_memory
from diarize.model import Diarizer
from diarize.module import DiarizationModule, TrainingConfig
from diarize.saving import TERMINATED
from diarize.trainer import make_trainer

USELESS = (
    "The '(train|val)_dataloader' does not have many workers",
    # StreamSampler goes on at the step where the run stopped.
    "You're resuming from a checkpoint that ended before the epoch ended",
    # Lightning's own use of torch.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # A front end that is frozen.
    r"Found \d+ module\(s\) in eval mode at the start of training",
    # Several processes, convolutions with channels last: a copy of a few kilobytes.
    "Grad strides do not match bucket view strides",
)
"""Beginnings of warnings that say nothing true or new of a run of ours."""

FREE = ("data.num_workers", "trainer.log_every", "trainer.checkpoint_every", "trainer.keep_every")
"""Settings that a resumed run may change, since its weights do not depend on them."""


def train(
    configs: Sequence[str | Path],
    overrides: Sequence[str],
    output: str | Path,
    resume: bool = False,
) -> Path:
    """Run, or go on with, an experiment.

    Args:
        configs: YAML files of differences from ``TrainingConfig``, and at most one model, whose
            settings of `Diarizer` go before them.
        overrides: ``key=value``.
        output: the experiment's folder; refused where it exists and ``resume`` is not asked.
        resume: continue from ``checkpoints/last.ckpt``, or begin where there is none.

    Returns:
        The best checkpoint by validation DER, or the last where nothing was validated.

    Raises:
        ConfigError: for a bad setting, or a resumed run whose settings differ.
        DiarizeError: for data or a checkpoint that cannot be used, or a loss that diverges.
        KeyboardInterrupt: on Ctrl-C; the run can be resumed.
        SystemExit: on SIGTERM, after it was saved; the run can be resumed.
    """
    for chatter in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(chatter).setLevel(logging.WARNING)
    files = [path for path in configs if Path(path).suffix in (".yaml", ".yml")]
    models = [str(path) for path in configs if path not in files]
    if len(models) > 1:
        raise ConfigError(
            f"{', '.join(models)}: are {len(models)} models, but a run has the settings of one. "
            "Leave out all others; a file of settings ends in .yaml."
        )
    values = {"diarizer": read_checkpoint(models[0]).diarizer} if models else None
    config = load_config(TrainingConfig, files, overrides, values)
    if not config.trainer.recompute:  # who asks for less memory would lose it again
        keep_freed_memory()
    output = Path(output)
    # Of several processes, the first answers for the folder.
    first = getattr(rank_zero_only, "rank", 0) in (None, 0)
    if first:
        check_experiment(output, config, resume, FREE)
    last, best = (output / "checkpoints" / name for name in ("last.ckpt", "best.ckpt"))
    resumed = last if resume and last.exists() else None
    # What is wrong with the settings is told before the corpus is decoded, which takes minutes.
    validates = config.data.validation is not None and config.diarization_weight > 0
    rests = config.diarizer.learned_silence
    trainer = make_trainer(config.trainer, output, config.seed, validates, rests)
    torch.manual_seed(config.seed)
    diarizer = Diarizer(config.diarizer)
    start, left = None, []
    if config.init is not None and resumed is None:
        start = read_checkpoint(config.init)
        left = initialize(diarizer, start)
    data = DiarizationData(
        config.data,
        config.seed,
        config.trainer.max_steps * config.trainer.accumulate,
        config.voice_weight > 0,
        diarizer,
    )
    module = DiarizationModule(config, list(data.voices), diarizer)
    if start is not None:
        recognised = module.recognise(start.voices)
        if "head.output.weight" not in left:
            module.known_slots = len(start.tensors["head.output.weight"])
        if first and left:
            named = ", ".join(left[:3]) + (", …" if len(left) > 3 else "")
            print(f"init: {len(left)} tensors not in {config.init}: {named}", file=sys.stderr)
        if first and data.voices:
            told = f"init: {recognised} of {len(data.voices)} voices known to {config.init}"
            print(told, file=sys.stderr)
    if first:
        processes = config.trainer.devices * config.trainer.num_nodes
        device = trainer.strategy.root_device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
        open_experiment(output, config, accelerator=f"{processes} x {name}")
    _fit(trainer, module, data, resumed)
    return best if best.exists() else last


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
        except SystemExit as end:
            # Lightning's answer to Ctrl-C, after which it ignores the signal.
            if not trainer.interrupted or end.code == TERMINATED:
                raise
            signal.signal(signal.SIGINT, on_interrupt)
            raise KeyboardInterrupt from None
        except (RuntimeError, ConnectionError, EOFError) as error:
            if (told := _in_words(error)) is None:
                raise
            raise told from None


def _in_words(error: Exception) -> DiarizeError | None:
    """What another process's end looks like from here, told as that."""
    said = str(error)
    if not isinstance(error, RuntimeError):  # its end of the pipe went first
        said = f"DataLoader worker has gone ({said or type(error).__name__})"
    if "DataLoader worker" in said:
        return DiarizeError(
            f"data.num_workers: {said.splitlines()[0].rstrip('. ')}, but the run needs all of "
            "them. Often memory was short: lower data.num_workers, then go on with --resume."
        )
    if isinstance(error, torch.distributed.DistBackendError) or "/gloo/" in said:
        return DiarizeError(
            "trainer.devices: another process of this run has ended, but they go on together or "
            "not at all. See what that one said, then go on with --resume."
        )
    return None
