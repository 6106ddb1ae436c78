"""Several processes train as one: same losses, each session once, exact error rates."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runs import (
    TINY,
    Material,
    Run,
    assert_same,
    assert_same_run,
    in_another_process,
    in_ranks,
    kill,
    stored,
    table,
)

from diarize import data, module
from diarize.checkpoint import load_checkpoint
from diarize.cli import main
from diarize.data import SharedBatches
from diarize.errors import ConfigError
from diarize.score import DiarizationError
from diarize.training import train

# Forked processes, without the seconds that a new interpreter takes.
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="two processes share no GPU"),
]

SAME = {
    # What is drawn for a batch is drawn by its place among ranks: without any draw, ranks are one.
    "diarizer__front_end__mel__dither": 0.0,
    "diarizer__front_end__input_dropout": 0.0,
    "diarizer__front_end__dropout": 0.0,
    "diarizer__encoder__dropout": 0.0,
    "diarizer__head_dropout": 0.0,
    "trainer__max_steps": 6,
    "trainer__log_every": 1,
    "trainer__validate_every": 3,
}


@pytest.fixture(scope="module")
def alone(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps of four sessions by one process; three sessions are validated."""
    folder = tmp_path_factory.mktemp("devices") / "alone"
    assert in_another_process(lambda: run(material, folder, data__batch_size=4)) == 0
    return folder


def run(material: Material, folder: Path, **settings: object) -> None:
    train([TINY], material.settings(**(SAME | settings)), folder)


def assert_same_curve(one: Path, other: Path) -> None:
    """Losses and weights to what sums in another order differ by, error rates to the last digit.

    A gradient of 4 sessions is the mean of two of 2: sums of float32 in another order, 1e-7 of
    them; AdamW divides by their size, so that small ones may differ by more. The steps themselves
    change the loss by 1e-2.
    """
    first, second = table(one), table(other)
    assert [row["step"] for row in first] == [row["step"] for row in second] != []
    for name in ("train_loss", "train_sort_loss", "val_loss", "train_dropped_speakers"):
        for left, right in zip(first, second, strict=True):
            assert left[name] == right[name] == "" or (
                float(left[name]) == pytest.approx(float(right[name]), rel=2e-5)
            ), name
    assert [row["val_der"] for row in first] == [row["val_der"] for row in second]
    losses = [float(row["train_loss"]) for row in first]
    assert max(losses) - min(losses) > 1e-2
    weights = [stored(f / "checkpoints" / "last.ckpt")["state_dict"] for f in (one, other)]
    for name, tensor in weights[0].items():
        torch.testing.assert_close(weights[1][name], tensor, rtol=1e-3, atol=2e-5, msg=name)


@pytest.mark.parametrize("batch_size", [2, 1])
def test_two_processes_have_the_losses_of_one(
    batch_size: int, alone: Path, material: Material, tmp_path: Path
) -> None:
    """Of 3 sessions to validate: two batches, the last not full; and three batches of one."""
    settings = {
        "trainer__devices": 2,
        "data__batch_size": batch_size,
        "trainer__accumulate": 2 // batch_size,
    }
    assert in_ranks(lambda _: run(material, tmp_path / "exp", **settings)) == [0, 0]
    assert_same_curve(alone, tmp_path / "exp")


def test_two_processes_train_through_the_cache_as_one(material: Material, tmp_path: Path) -> None:
    through = {
        "diarizer__front_end__mel__normalization": "none",
        "rehearsal__latency": "'chunk=5,left=1,right=1,fifo=0,cache=16,update=5'",
        "rehearsal__permute": False,  # as drawn as dither is
        "trainer__max_steps": 3,
    }
    one, other = tmp_path / "one", tmp_path / "other"
    assert in_another_process(lambda: run(material, one, **through, data__batch_size=4)) == 0
    more = {"trainer__devices": 2, "data__batch_size": 2}
    assert in_ranks(lambda _: run(material, other, **through, **more)) == [0, 0]
    assert_same_curve(one, other)


def test_batches_are_accumulated_to_a_larger_one(
    alone: Path, material: Material, tmp_path: Path
) -> None:
    folder = tmp_path / "exp"
    more = {"data__batch_size": 1, "trainer__accumulate": 4}
    assert in_another_process(lambda: run(material, folder, **more)) == 0
    assert_same_curve(alone, folder)
    assert stored(folder / "checkpoints" / "last.ckpt")["global_step"] == 6


def test_each_session_is_trained_on_and_validated_once(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three ranks, two batches of validation: the third rank keeps step, and does not count."""
    batch, score = data.Simulated.batch, module.score

    def told(source: data.Simulated, draw: data.Draw, collate: data.Collate) -> data.Batch:
        for index in draw.numbers:
            write(f"index {index}")
        return batch(source, draw, collate)

    def scored(*args: Any, **more: Any) -> DiarizationError:
        write(f"session {args[0]}")
        return score(*args, **more)

    def write(line: str) -> None:
        with (tmp_path / "read").open("a") as file:
            file.write(f"{line}\n")

    def ranked(_: int) -> None:
        monkeypatch.setattr(data.Simulated, "batch", told)
        monkeypatch.setattr(module, "score", scored)
        more = {"trainer__devices": 3, "trainer__accumulate": 2, "trainer__max_steps": 2}
        run(material, tmp_path / "exp", **more)

    assert in_ranks(ranked, 3) == [0, 0, 0]
    lines = (tmp_path / "read").read_text().splitlines()
    indices = sorted(int(line.split()[1]) for line in lines if line.startswith("index"))
    assert indices == list(range(2 * 2 * 3 * 2))
    sessions = [line for line in lines if line.startswith("session")]
    assert len(sessions) == len(set(sessions)) == 3


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 7))
def test_batches_are_dealt_out_once(num_examples: int, batch_size: int, num_ranks: int) -> None:
    ranks = [SharedBatches(num_examples, batch_size, rank, num_ranks) for rank in range(num_ranks)]
    assert len({len(rank) for rank in ranks}) == 1
    dealt = [[(batch, rank.is_first(k)) for k, batch in enumerate(rank)] for rank in ranks]
    in_turn = [dealt[r][k] for k in range(len(ranks[0])) for r in range(num_ranks)]
    first = [batch for batch, counts in in_turn if counts]
    assert [index for batch in first for index in batch] == list(range(num_examples))
    assert all(len(batch) == batch_size for batch in first[:-1])
    assert all(batch == first[-1] for batch, counts in in_turn if not counts)
    assert len(in_turn) - len(first) < num_ranks


def kill_in_batch(number: int) -> None:
    """Of this process, as it begins its n-th batch."""
    step, seen = module.DiarizationModule.training_step, []

    def until(trained: module.DiarizationModule, *batch: Any) -> torch.Tensor:
        seen.append(batch)
        if len(seen) == number:
            kill()
        return step(trained, *batch)

    module.DiarizationModule.training_step = until  # type: ignore[method-assign]


def test_run_goes_on_after_one_rank_was_killed(material: Material, tmp_path: Path) -> None:
    """In the middle of accumulating: to the weights of a run that nobody killed, to the bit."""
    more = {"trainer__devices": 2, "trainer__accumulate": 2, "trainer__checkpoint_every": 2}
    settings = material.settings(**{**more, "trainer__max_steps": 6, "data__batch_size": 1})
    whole, folder = tmp_path / "whole", tmp_path / "killed"

    def killed(rank: int) -> None:
        if rank == 1:
            kill_in_batch(2 * 4 + 2)
        with (tmp_path / "log").open("a") as sys.stderr:
            sys.exit(main(["train", str(TINY), *settings, "--output", str(folder)]))

    assert in_ranks(lambda _: train([TINY], settings, whole)) == [0, 0]
    first, second = in_ranks(killed)
    assert second == -signal.SIGKILL and first == 1
    said = (tmp_path / "log").read_text().splitlines()[-1]
    assert said == (
        "diarize train: trainer.devices: another process of this run has ended, but they go on "
        "together or not at all. See what that one said, then go on with --resume."
    )
    assert stored(folder / "checkpoints" / "last.ckpt")["global_step"] == 4
    assert in_ranks(lambda _: train([TINY], settings, folder, resume=True)) == [0, 0]
    assert_same_run(folder, Run(whole, whole, []))


def test_slurm_starts_processes_that_train_together(material: Material, tmp_path: Path) -> None:
    signals = []

    def ranked(_: int) -> None:
        before = signal.getsignal(signal.SIGUSR1)
        begin = module.DiarizationModule.on_train_start

        def started(trained: module.DiarizationModule) -> None:
            begin(trained)
            assert trained.trainer.world_size == 2
            assert signal.getsignal(signal.SIGUSR1) is before  # Lightning would queue up again
            signals.append(1)

        module.DiarizationModule.on_train_start = started  # type: ignore[method-assign]
        run(material, tmp_path / "exp", trainer__devices=2, trainer__max_steps=1)
        assert signals == [1]

    assert in_ranks(ranked, launcher="slurm") == [0, 0]
    assert len((tmp_path / "exp" / "environment.jsonl").read_text().splitlines()) == 1


@pytest.mark.parametrize(("launcher", "name"), [("torchrun", "torchrun"), ("slurm", "SLURM")])
def test_processes_that_would_train_each_for_itself(
    launcher: str, name: str, material: Material, tmp_path: Path
) -> None:
    message = (
        rf"trainer\.devices is 1 and trainer\.num_nodes 1, but {name} started 2 processes, 2 on "
        r"each node\. Set trainer\.devices=2 trainer\.num_nodes=1\."
    )

    def ranked(_: int) -> None:
        with pytest.raises(ConfigError, match=message):
            run(material, tmp_path / "exp")

    assert in_ranks(ranked, launcher=launcher) == [0, 0]
    assert not (tmp_path / "exp").exists()


BATCH = Path(__file__).parents[1] / "recipes" / "slurm" / "train.sbatch"

STUBS = {
    "srun": 'shift; for n in 0 1; do SLURM_PROCID=$n "$@" || status=$?; done; exit ${status:-0}',
    "scontrol": 'echo "scontrol $*"',
    "diarize": 'echo "rank $SLURM_PROCID: $*"; exit $STATUS',
}


@pytest.mark.parametrize("status", [0, 1, 143])
def test_batch_script_queues_up_again_where_it_was_stopped(status: int, tmp_path: Path) -> None:
    """With stand-ins for SLURM's commands, on one node."""
    subprocess.run(["bash", "-n", BATCH], check=True)
    for name, text in STUBS.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    granted = {"SLURM_NNODES": "1", "SLURM_NTASKS_PER_NODE": "2", "SLURM_JOB_ID": "77"}
    environment = granted | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "STATUS": str(status)}
    words = ["conf/tiny.yaml", "data.utterances=a b.jsonl", "--output", "exp/a"]
    done = subprocess.run(
        ["bash", BATCH, *words], env=environment, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == status and done.stderr == ""
    command = f"train {' '.join(words)} --resume trainer.num_nodes=1 trainer.devices=2"
    expected = [f"rank {rank}: {command}" for rank in (0, 1)]
    assert done.stdout.splitlines() == expected + ["scontrol requeue 77"] * (status == 143)


def test_all_ranks_stop_where_one_is_told_to(material: Material, tmp_path: Path) -> None:
    """In the midst of a step: all end after it, and only one saves and tells."""
    step, folder = module.DiarizationModule.training_step, tmp_path / "exp"

    def ranked(rank: int) -> None:
        def until(trained: module.DiarizationModule, batch: data.Batch, number: int) -> Any:
            if rank == 1 and number == 2:  # the first of two batches
                os.kill(os.getpid(), signal.SIGTERM)
            return step(trained, batch, number)

        module.DiarizationModule.training_step = until  # type: ignore[method-assign]
        with (tmp_path / f"log-{rank}").open("w") as sys.stderr:
            run(material, folder, trainer__devices=2, trainer__accumulate=2, data__batch_size=1)

    assert in_ranks(ranked) == [143, 143]
    assert stored(folder / "checkpoints" / "last.ckpt")["global_step"] == 2
    told = "step 2/6: saved, for SIGTERM came. Go on with --resume."
    assert (tmp_path / "log-0").read_text().splitlines()[-1] == told
    assert (tmp_path / "log-1").read_text() == ""


def test_weights_may_have_no_part_in_a_step(material: Material, tmp_path: Path) -> None:
    """What a stream remembers as silence is learned where there is a stream."""
    more = {"trainer__devices": 2, "trainer__max_steps": 2, "data__validation": "null"}
    settings = material.settings(**more, diarizer__learned_silence="true")
    assert in_ranks(lambda _: train([TINY], settings, tmp_path / "exp")) == [0, 0]


SHARDED = {"trainer__devices": 2, "data__batch_size": 2, "trainer__strategy": "fsdp"}


def test_model_that_is_dealt_out_learns_as_one_that_is_not(
    alone: Path, material: Material, tmp_path: Path
) -> None:
    """And its checkpoints are those of one device: whole, of the same names, and loaded as such."""
    begin = module.DiarizationModule.on_train_start

    def ranked(rank: int) -> None:
        def started(trained: module.DiarizationModule) -> None:
            begin(trained)
            weights = list(trained.diarizer.parameters())
            held = sum(w.to_local().numel() for w in weights)  # type: ignore[operator]
            (tmp_path / f"held-{rank}").write_text(f"{held} {sum(w.numel() for w in weights)}")

        module.DiarizationModule.on_train_start = started  # type: ignore[method-assign]
        run(material, tmp_path / "exp", **SHARDED)

    assert in_ranks(ranked) == [0, 0]
    assert_same_curve(alone, tmp_path / "exp")
    told = [(tmp_path / f"held-{rank}").read_text().split() for rank in (0, 1)]
    held, total = [int(words[0]) for words in told], int(told[0][1])
    assert sum(held) == total and max(held) < 0.55 * total
    loaded = load_checkpoint(tmp_path / "exp")
    assert sum(p.numel() for p in loaded.parameters()) == total


def test_model_that_is_dealt_out_is_resumed(material: Material, tmp_path: Path) -> None:
    """Matrices that are dealt out are turned as a whole; one layer is asked for by itself."""
    settings = material.settings(
        **SHARDED,
        attention_weight=0.1,
        optimizer__algorithm="muon",
        trainer__max_steps=2,
        trainer__keep_every=1,
        data__validation="null",
    )
    assert in_ranks(lambda _: train([TINY], settings, tmp_path / "exp")) == [0, 0]
    last, first = (tmp_path / "exp" / "checkpoints" / f"{name}.ckpt" for name in ("last", "step-1"))
    whole = stored(last)
    last.write_bytes(first.read_bytes())
    assert stored(last)["global_step"] == 1
    assert in_ranks(lambda _: train([TINY], settings, tmp_path / "exp", resume=True)) == [0, 0]
    for part in ("state_dict", "optimizer_states", "global_step"):
        assert_same(stored(last)[part], whole[part], part)
