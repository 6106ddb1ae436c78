"""What the tests of training share: the material of small runs, and runs to compare."""

import csv
import multiprocessing
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pytorch_lightning.utilities import rank_zero_only

TINY = Path(__file__).parents[1] / "conf" / "tiny.yaml"


class Material(NamedTuple):
    """What the runs here learn from."""

    utterances: Path
    validation: Path

    def settings(self, **more: Any) -> list[str]:
        """Overrides of a run of ten small steps, with dotted keys for underscores."""
        settings = {
            "data.utterances": self.utterances,
            "data.validation": self.validation,
            "data.num_workers": 0,
            "data.batch_size": 2,
            "data.simulation.duration": 1.6,
            "data.simulation.min_voice": 0.5,
            "data.simulation.silence": 0.2,
            "data.simulation.pause": 0.1,
            "diarizer.front_end.num_layers": 1,
            "diarizer.encoder.num_layers": 1,
            "optimizer.warmup_steps": 3,
            "trainer.max_steps": 10,
            "trainer.validate_every": 4,
            "trainer.checkpoint_every": 3,
            "trainer.log_every": 2,
            # Low thresholds: a network that has learned little still answers something.
            "postprocess.onset": 0.3,
            "postprocess.offset": 0.25,
        }
        settings |= {key.replace("__", "."): value for key, value in more.items()}
        return [f"{key}={value}" for key, value in settings.items()]


class Run(NamedTuple):
    """A finished run and what it said."""

    folder: Path
    result: Path
    lines: list[str]


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def stored(path: Path) -> dict[str, Any]:
    return torch.load(path, weights_only=True)


def assert_same(one: Any, other: Any, where: str = "") -> None:
    """The same to the bit."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            assert_same(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, (left, right) in enumerate(zip(one, other, strict=True)):
            assert_same(left, right, f"{where}[{number}]")
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other), where
    else:
        assert one == other, where


def assert_same_run(folder: Path, whole: Run) -> None:
    for name in ("last.ckpt", "best.ckpt"):
        one, other = (stored(f / "checkpoints" / name) for f in (folder, whole.folder))
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "callbacks", "global_step"):
            assert_same(one[part], other[part], f"{name}: {part}")
    rows = [[row | {"data_wait": ""} for row in table(f)] for f in (folder, whole.folder)]
    assert rows[0] == rows[1]
    assert list((folder / "checkpoints").glob(".*")) == []


def in_another_process(task: Callable[[], None]) -> int | None:
    """Exit status of a forked process, negative for the signal that killed it."""
    process = multiprocessing.get_context("fork").Process(target=task)
    process.start()
    process.join()
    return process.exitcode


LAUNCHERS = {
    "torchrun": {
        "TORCHELASTIC_RUN_ID": "test",
        "TORCHELASTIC_USE_AGENT_STORE": "False",
        "GROUP_RANK": "0",
        "RANK": "{rank}",
        "LOCAL_RANK": "{rank}",
        "WORLD_SIZE": "{count}",
        "LOCAL_WORLD_SIZE": "{count}",
    },
    "slurm": {
        "SLURM_JOB_ID": "1234",
        "SLURM_JOB_NAME": "diarize",
        "SLURM_NNODES": "1",
        "SLURM_NODELIST": "localhost",
        "SLURM_NODEID": "0",
        "SLURM_NTASKS": "{count}",
        "SLURM_NTASKS_PER_NODE": "{count}",
        "SLURM_PROCID": "{rank}",
        "SLURM_LOCALID": "{rank}",
    },
}
"""What they tell the processes that they start."""


def in_ranks(
    task: Callable[[int], object], count: int = 2, launcher: str = "torchrun"
) -> list[int | None]:
    """Exit statuses of forked processes that train together.

    Args:
        task: is told its rank.
        count: how many.
        launcher: what would start them: ``torchrun``, or ``slurm``.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def ranked(rank: int) -> None:
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ |= {
            name: value.format(rank=rank, count=count)
            for name, value in LAUNCHERS[launcher].items()
        }
        rank_zero_only.rank = rank  # read when Lightning was imported
        task(rank)

    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=ranked, args=(rank,)) for rank in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
