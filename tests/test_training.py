"""A run learns, tells how it goes, and ends the same whether or not it was killed on its way."""

import csv
import io
import logging
import math
import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from tones import write_corpus

from diarize import training
from diarize.checkpoint import load_checkpoint
from diarize.cli import main
from diarize.config import load_config
from diarize.data import Collate, Example
from diarize.errors import ConfigError, DiarizeError
from diarize.manifest import read_manifest, reference_turns, scored_regions
from diarize.postprocess import PostprocessConfig, to_turns
from diarize.saving import Checkpoints
from diarize.score import DiarizationError, score_sessions
from diarize.simulate import SimulationConfig, Simulator, write_sessions
from diarize.steplog import MetricsTable
from diarize.training import (
    DiarizationModule,
    ErrorRate,
    OptimizerConfig,
    TrainingConfig,
    learning_rate_factor,
    train,
)

# Forked processes are killed here at a step, without the seconds that a new interpreter takes.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")

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


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums in one order; and processes that are forked here have no threads to miss."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Material]:
    folder = tmp_path_factory.mktemp("material")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        utterances = write_corpus(folder, 3, 3, 0.4)
        config = SimulationConfig(duration=2.4, min_voice=0.5, silence=0.2, pause=0.1)
        simulator = Simulator.from_manifests(config, utterances, seed=5)
        yield Material(utterances, write_sessions(simulator, 3, folder / "dev", show=False))


class Run(NamedTuple):
    """A finished run and what it said."""

    folder: Path
    result: Path
    lines: list[str]


@pytest.fixture(scope="module")
def whole(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that nobody interrupted."""
    folder = tmp_path_factory.mktemp("exp") / "whole"
    log = folder.with_suffix(".log")
    with log.open("w") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", file)
        result = train([TINY], material.settings(), folder)
    return Run(folder, result, log.read_text().splitlines())


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


# ---- learning


def test_one_batch_is_learned(a_session: Callable) -> None:
    config = load_config(TrainingConfig, [TINY], ["data.utterances=x"])
    torch.manual_seed(0)
    module = DiarizationModule(config)
    examples = [Example("s", *a_session(num_speakers, 3.2)) for num_speakers in (1, 2)]
    batch = Collate(module.diarizer.grid, 4)(examples)
    optimizer = torch.optim.AdamW(module.parameters(), 3e-3)
    began = time.process_time()
    for _ in range(300):
        loss, logits, _ = module._step(batch)
        if loss.item() < 0.05:
            break
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    assert time.process_time() - began < 20
    assert logits is not None and logits.shape == batch.activity.shape


def test_losses_are_float32_under_mixed_precision(a_session: Callable) -> None:
    config = load_config(TrainingConfig, [TINY], ["data.utterances=x", "voice_weight=0.5"])
    module = DiarizationModule(config, ["ann", "ben"])
    grid = module.diarizer.grid
    batch = Collate(grid, 4, {"speaker_0": 0, "speaker_1": 1})([Example("s", *a_session(2, 3.2))])
    torch.manual_seed(0)
    plain, _, _ = module._step(batch)
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        loss, logits, parts = module._step(batch)
    assert logits is not None and logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert {value.dtype for value in parts.values()} == {torch.float32}
    assert set(parts) == {"voice_loss", "sort_loss", "permutation_invariant_loss"}
    assert loss.item() == pytest.approx(plain.item(), rel=0.05)


def test_matrices_decay_and_vectors_do_not() -> None:
    module = DiarizationModule(load_config(TrainingConfig, [TINY]))
    optimizer = module.configure_optimizers()["optimizer"]
    decaying, others = optimizer.param_groups
    assert decaying["weight_decay"] == 1e-3 and others["weight_decay"] == 0.0
    assert {p.ndim for p in others["params"]} == {1}
    assert min(p.ndim for p in decaying["params"]) == 2
    assert sum(len(g["params"]) for g in optimizer.param_groups) == len(list(module.parameters()))


def test_learning_rate_rises_and_falls() -> None:
    def drawn(schedule: str) -> list[float]:
        config = OptimizerConfig(warmup_steps=4, schedule=schedule)
        return [learning_rate_factor(step, config, 24) for step in range(25)]

    cosine, root = drawn("cosine"), drawn("inverse_sqrt")
    assert cosine[:5] == root[:4] + [1.0] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert cosine[14] == pytest.approx((1 + 0.01) / 2)  # half way from the peak to the end
    assert cosine[24] == pytest.approx(0.01)
    assert root[15] == pytest.approx(0.5)  # sqrt(4 / 16)
    for rates in (cosine, root):
        assert all(late < early for early, late in zip(rates[4:], rates[5:], strict=False))
    still = OptimizerConfig(warmup_steps=0)
    assert learning_rate_factor(0, still, 10) == 1.0
    assert learning_rate_factor(99, still, 10) == pytest.approx(0.01)


# ---- what a run leaves and says


def test_run_leaves_checkpoints_settings_and_logs(whole: Run) -> None:
    folder = whole.folder
    assert whole.result == folder / "checkpoints" / "best.ckpt"
    names = sorted(path.name for path in folder.iterdir())
    expected = ["checkpoints", "config.yaml", "environment.jsonl", "metrics.csv", "tensorboard"]
    assert names == expected
    assert list((folder / "tensorboard").glob("events.*"))
    assert load_config(TrainingConfig, [folder / "config.yaml"]).trainer.max_steps == 10
    assert stored(folder / "checkpoints" / "last.ckpt")["global_step"] == 10


def test_run_says_what_matters_and_no_more(whole: Run) -> None:
    number = r"\d+\.\d+"
    losses = rf"loss {number}, permutation_invariant_loss {number}, sort_loss {number}"
    step = rf"step (\d+)/10: {losses}; \d+ x real time, data wait {number}%"
    validated = rf"step (\d+)/10: val_der {number}, val_loss {number}"
    said = [re.fullmatch(f"{step}|{validated}", line) for line in whole.lines]
    assert all(said), whole.lines
    assert [line[1] for line in said if line and line[1]] == ["2", "4", "6", "8", "10"]
    assert [line[2] for line in said if line and line[2]] == ["4", "8", "10"]


class Terminal(io.StringIO):
    """What is written to it, as a terminal gets it."""

    def isatty(self) -> bool:
        return True


def test_terminal_shows_a_bar_and_lines_above_it(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    settings = material.settings(data__validation="null", trainer__max_steps=3)
    train([TINY], settings, tmp_path / "exp")
    shown = terminal.getvalue()
    assert "0/3 [" in shown and "step/s" in shown
    assert "\rstep 2/3: loss" in shown
    assert shown.endswith("\r")  # the bar is taken away


def test_table_has_a_row_per_logged_step(whole: Run) -> None:
    rows = table(whole.folder)
    assert [row["step"] for row in rows] == ["2", "4", "6", "8", "10"]
    assert [row["step"] for row in rows if row["val_der"]] == ["4", "8", "10"]
    for row in rows:
        assert 0 <= float(row["data_wait"]) <= 1
        halves = float(row["train_sort_loss"]) + float(row["train_permutation_invariant_loss"])
        assert float(row["train_loss"]) == pytest.approx(halves / 2, rel=1e-4)
    rates = [float(row["learning_rate"]) for row in rows]
    config = OptimizerConfig(warmup_steps=3)
    expected = [1e-3 * learning_rate_factor(step, config, 10) for step in (1, 3, 5, 7, 9)]
    assert rates == pytest.approx(expected, rel=1e-4)


def test_validation_der_is_the_scorers(whole: Run, material: Material) -> None:
    diarizer = load_checkpoint(whole.folder / "checkpoints" / "last.ckpt")
    config = load_config(PostprocessConfig, values=diarizer.postprocess)
    assert config.onset == 0.3
    sessions = read_manifest(material.validation)
    hypotheses = {}
    for session in sessions:
        waveform = torch.from_numpy(training_waveform(session.audio))[None]
        posterior, _ = diarizer.posterior(waveform, torch.tensor([waveform.shape[1]]))
        shift = diarizer.grid.frame_shift
        hypotheses[session.session_id] = to_turns(posterior[0].numpy(), shift, config)
    references = {s.session_id: reference_turns(s) for s in sessions}
    regions = {s.session_id: scored_regions(s) for s in sessions}
    expected = 100 * score_sessions(references, hypotheses, uems=regions).total.der
    assert any(hypotheses.values()), "scores nothing but misses"
    assert float(table(whole.folder)[-1]["val_der"]) == pytest.approx(expected, abs=0.01)


def training_waveform(path: Path) -> np.ndarray:
    from diarize.audio import read_audio

    return read_audio(path)


def test_best_checkpoint_has_the_lowest_der(whole: Run) -> None:
    best = stored(whole.folder / "checkpoints" / "best.ckpt")
    errors = {
        int(row["step"]): float(row["val_der"]) for row in table(whole.folder) if row["val_der"]
    }
    assert best["global_step"] == min(errors, key=lambda step: (errors[step], step))
    assert best["callbacks"]["Checkpoints"]["best"] == pytest.approx(min(errors.values()), rel=1e-5)


def test_experiment_is_a_model(whole: Run) -> None:
    diarizer = load_checkpoint(whole.folder)
    best = stored(whole.result)
    for name, tensor in diarizer.state_dict().items():
        assert torch.equal(tensor, best["state_dict"][f"diarizer.{name}"])
    assert diarizer.inference == {"window": 30.0}
    # Every default is written out, so that a checkpoint outlives a change of defaults.
    assert best["hyper_parameters"]["diarizer_config"]["front_end"]["mel"]["num_mels"] == 80


def test_error_rate_sums_before_it_divides() -> None:
    rate = ErrorRate()
    rate.update(DiarizationError(scored=3.0, miss=0.3, false_alarm=0.2, confusion=0.1))
    rate.update(DiarizationError(scored=1.0, confusion=1.0))
    assert rate.compute().item() == pytest.approx(100 * 1.6 / 4.0)
    rate.reset()
    rate.update(DiarizationError(false_alarm=0.5))
    assert rate.compute().item() == pytest.approx(50.0)  # of one second


def test_speakers_without_a_slot_are_reported(
    material: Material, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    settings = material.settings(
        diarizer__num_slots=1, trainer__max_steps=2, data__simulation__independent_share=1.0
    )
    train([TINY], settings, tmp_path / "exp")
    said = re.findall(r"(\d+) of (\d+) speakers dropped, beyond 1 slots", capsys.readouterr().err)
    (trained, of_trained), (validated, of_validated) = [tuple(map(int, s)) for s in said]
    assert 0 < trained < of_trained <= 8
    truth = [
        len({t.speaker for t in reference_turns(s)}) for s in read_manifest(material.validation)
    ]
    assert (validated, of_validated) == (sum(truth) - len(truth), sum(truth))
    row = table(tmp_path / "exp")[-1]
    assert float(row["train_dropped_speakers"]) == trained
    assert float(row["val_dropped_speakers"]) == validated


def test_run_without_validation_keeps_the_last(material: Material, tmp_path: Path) -> None:
    settings = material.settings(data__validation="null", trainer__max_steps=2)
    result = train([TINY], settings, tmp_path / "exp")
    assert result == tmp_path / "exp" / "checkpoints" / "last.ckpt"
    assert stored(result)["global_step"] == 2
    assert not result.with_name("best.ckpt").exists()
    load_checkpoint(tmp_path / "exp")


def test_recorded_sessions_are_learned_too(material: Material, tmp_path: Path) -> None:
    settings = material.settings(
        data__sessions=material.validation, data__window=1.5, trainer__max_steps=2,
        trainer__precision="bf16-mixed",
    )  # fmt: skip
    train([TINY], settings, tmp_path / "exp")
    assert math.isfinite(float(table(tmp_path / "exp")[-1]["train_loss"]))


def test_a_run_that_diverges_stops(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverged(*args: Any) -> tuple[torch.Tensor, dict]:
        return args[0].sum() * float("nan"), {}

    monkeypatch.setattr(training, "diarization_loss", diverged)
    with pytest.raises(DiarizeError, match=r"step 1: the loss is nan, but .* Lower optimizer\.lea"):
        train([TINY], material.settings(trainer__checkpoint_every=1), tmp_path / "exp")
    assert not (tmp_path / "exp" / "checkpoints" / "last.ckpt").exists()


# ---- voices first


def test_voices_are_learned_first_and_start_a_run(
    material: Material, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    few = {"trainer__max_steps": 2, "data__batch_size": 3}
    voices = {
        "voice_weight": 1.0,
        "diarization_weight": 0.0,
        "data__simulation__speed": "[0.9,1.1]",
    }
    train([TINY], material.settings(**few, **voices), tmp_path / "voices")
    first = stored(tmp_path / "voices" / "checkpoints" / "last.ckpt")["state_dict"]
    assert first["voices.weight"].shape == (6, 64)  # three speakers at two speeds
    assert float(table(tmp_path / "voices")[-1]["train_voice_loss"]) > 0
    assert not (tmp_path / "voices" / "checkpoints" / "best.ckpt").exists()

    start = {"init": tmp_path / "voices", "optimizer__learning_rate": 0.0, "diarizer__num_slots": 3}
    train([TINY], material.settings(**few, **start), tmp_path / "exp")
    then = stored(tmp_path / "exp" / "checkpoints" / "last.ckpt")["state_dict"]
    for name, tensor in then.items():
        if name.startswith("diarizer.front_end"):
            assert torch.equal(tensor, first[name]), name
    said = capsys.readouterr().err
    left = "init: 2 tensors not in .*voices: head.output.weight, head.output.bias"
    assert re.search(left, said) and "voices known to" not in said

    both = {"voice_weight": 0.1, "data__simulation__speed": "[1.1,1.2]"}
    train([TINY], material.settings(**few, **start, **both), tmp_path / "both")
    other = stored(tmp_path / "both" / "checkpoints" / "last.ckpt")
    known, names = other["state_dict"]["voices.weight"], other["hyper_parameters"]["voices"]
    earlier = stored(tmp_path / "voices" / "checkpoints" / "last.ckpt")["hyper_parameters"]
    assert sum(name in earlier["voices"] for name in names) == 3
    for name, weight in zip(names, known, strict=True):
        if name in earlier["voices"]:
            assert torch.equal(weight, first["voices.weight"][earlier["voices"].index(name)])
    assert re.search("init: 3 of 6 voices known to .*voices", capsys.readouterr().err)


def test_only_what_is_learned_has_gradients() -> None:
    voices = load_config(TrainingConfig, [TINY], ["voice_weight=1", "diarization_weight=0"])
    trained = {
        name
        for name, p in DiarizationModule(voices, ["ann", "ben", "cid"]).named_parameters()
        if p.requires_grad
    }
    assert {name.split(".")[0] for name in trained} == {"diarizer", "voices"}
    assert {name.split(".")[1] for name in trained} == {"front_end", "weight"}


# ---- killed, interrupted, resumed


def in_another_process(task: Callable[[], None]) -> int | None:
    """Exit status of a forked process, negative for the signal that killed it."""
    process = multiprocessing.get_context("fork").Process(target=task)
    process.start()
    process.join()
    return process.exitcode


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


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
    train([TINY], workers, folder, resume=True)
    assert_same_run(folder, whole)


def test_checkpoint_is_whole_or_not_there(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "exp"
    settings = material.settings(data__validation="null", trainer__max_steps=2)
    save = torch.save

    def killed() -> None:
        def half(content: Any, path: Path) -> None:
            save(content, path)
            os.truncate(path, 1000)
            kill()

        monkeypatch.setattr(torch, "save", half)
        train([TINY], settings, folder)

    assert in_another_process(killed) == -signal.SIGKILL
    (half,) = (folder / "checkpoints").iterdir()
    assert half.name.startswith(".last.ckpt")
    train([TINY], settings, folder, resume=True)
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["last.ckpt"]


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


# ---- mistakes


def test_experiment_is_not_overwritten(whole: Run, material: Material) -> None:
    before = {p: p.stat().st_mtime_ns for p in whole.folder.rglob("*")}
    with pytest.raises(ConfigError, match=r"whole: holds an experiment already, but --resume"):
        train([TINY], material.settings(), whole.folder)
    message = r"begun with optimizer\.learning_rate=0\.001, not 0\.5\. Resume with the same"
    with pytest.raises(ConfigError, match=message):
        changed = material.settings(optimizer__learning_rate=0.5)
        train([TINY], changed, whole.folder, resume=True)
    assert {p: p.stat().st_mtime_ns for p in whole.folder.rglob("*")} == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"data__utterances": "null"}, r"both null, but training needs one\. Give data\.utter"),
        ({"data__utterances": "none.jsonl"}, r"none\.jsonl: cannot be read"),
        ({"data__validation": "none.jsonl"}, r"none\.jsonl: cannot be read"),
        ({"init": "nowhere"}, r"nowhere"),
        (
            {"voice_weight": 1.0, "data__utterances": "null", "data__sessions": "x.jsonl"},
            r"voice_weight is above 0, but data\.utterances is null",
        ),
        ({"diarization_weight": 0.0}, r"voice_weight is 0 and diarization_weight is 0, but"),
        ({"optimizer__schedule": "linear"}, r"schedule is 'linear', but .* cosine or inverse_sqrt"),
        ({"optimizer__betas": "[0.9]"}, r"betas is \[0\.9\], but AdamW has 2"),
        ({"optimizer__learning_rate": -1.0}, r"learning_rate is -1, but it is at least 0"),
        ({"trainer__precision": "8"}, r"precision is '8', but it may be auto, 32-true, "),
        ({"trainer__max_steps": 0}, r"max_steps is 0, but it is at least 1"),
        ({"data__batch_size": 0}, r"batch_size is 0, but it is at least 1"),
        ({"data__window": 0.0}, r"window is 0, but it is at least 0\.1"),
        ({"data__recorded_share": 2.0}, r"recorded_share is 2, but a share is from 0 to 1"),
        ({"seed": -1}, r"seed is -1, but it is at least 0"),
        ({"trainer__max_step": 5}, r"max_step is not a setting of TrainerConfig\. Did you mean"),
    ],
)
def test_mistakes_are_told_before_a_folder_is_made(
    material: Material, tmp_path: Path, settings: dict, message: str
) -> None:
    with pytest.raises(DiarizeError, match=message):
        train([TINY], material.settings(**settings), tmp_path / "exp")
    assert not (tmp_path / "exp").exists()


# ---- the table


def test_table_of_a_resumed_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = MetricsTable(path)
    first.log_metrics({"loss": 2.0, "epoch": 0}, step=1)
    first.log_metrics({"loss": 1.5}, step=3)
    first.log_metrics({"der": 40.0}, step=3)
    first.log_metrics({"loss": 9.0}, step=5)
    second = MetricsTable(path)
    second.log_metrics({"loss": 1.25, "wait": 0.5}, step=5)
    assert path.read_text().splitlines() == [
        "step,der,loss,wait",
        "2,,2,",
        "4,40,1.5,",
        "6,,1.25,0.5",
    ]


def test_chatter_is_silenced_and_warnings_are_not(whole: Run) -> None:
    for name in ("pytorch_lightning", "lightning_fabric"):
        assert logging.getLogger(name).getEffectiveLevel() == logging.WARNING
