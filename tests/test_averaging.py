"""Averages of weights: one that moves along with a run, and one of checkpoints that it kept."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import TINY, Material, Run, assert_same, assert_same_run, in_another_process, kill, stored

from diarize.checkpoint import load_checkpoint, read_checkpoint
from diarize.cli import main
from diarize.errors import ConfigError
from diarize.module import DiarizationModule
from diarize.training import train

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),
]

MORE = {
    "diarizer__front_end__conv_norm": "batch_norm",
    "trainer__max_steps": 5,
    "trainer__validate_every": 3,
    "trainer__checkpoint_every": 3,
}

Weights = dict[str, torch.Tensor]


def copied(module: DiarizationModule) -> Weights:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def test_average_is_validated_and_saved_as_the_model(
    material: Material, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against weights that are written down before every step and in every validation."""
    seen: dict[str, list[Weights]] = {"training_step": [], "validation_step": []}

    def telling(step: Callable[..., Any], weights: list[Weights]) -> Callable[..., Any]:
        def told(module: DiarizationModule, *batch: Any) -> Any:
            weights.append(copied(module))
            return step(module, *batch)

        return told

    for name, weights in seen.items():
        monkeypatch.setattr(
            DiarizationModule, name, telling(getattr(DiarizationModule, name), weights)
        )
    train([TINY], material.settings(**MORE, trainer__ema_decay=0.3), tmp_path / "exp")
    last = stored(tmp_path / "exp" / "checkpoints" / "last.ckpt")
    first, *after = seen["training_step"]
    after.append(last["trained"])
    averages = [first]
    for step, weights in enumerate(after, start=1):
        decay = min(0.3, (1 + step) / (10 + step))  # 2/11, 3/12, 4/13, 0.3, 0.3
        before = averages[-1]
        averages.append({n: decay * before[n] + (1 - decay) * w for n, w in weights.items()})
    in_third, _, in_last, _ = seen["validation_step"]  # two batches each
    for found, step in ((in_third, 3), (in_last, 5), (last["state_dict"], 5)):
        for name, expected in averages[step].items():
            if expected.is_floating_point() and not name.endswith("num_batches_tracked"):
                torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-6, msg=name)
    moved = averages[5]["diarizer.head.output.weight"] - after[-1]["diarizer.head.output.weight"]
    assert moved.abs().max() > 1e-5
    loaded = load_checkpoint(tmp_path / "exp" / "checkpoints" / "last.ckpt").state_dict()
    for name, tensor in loaded.items():
        assert torch.equal(tensor, last["state_dict"][f"diarizer.{name}"])


def test_killed_run_goes_on_with_both(material: Material, tmp_path: Path) -> None:
    """And with the rate that new slots have, which only the start of a run knows of."""
    train([TINY], material.settings(trainer__max_steps=1), tmp_path / "start")
    more = {
        "trainer__ema_decay": 0.9,
        "init": tmp_path / "start",
        "diarizer__num_slots": 6,
        "diarizer__front_end__conv_norm": "layer_norm",
        "optimizer__new_slots_share": 10,
    }
    settings = material.settings(**(MORE | more))
    whole, folder = tmp_path / "whole", tmp_path / "exp"
    train([TINY], settings, whole)

    def killed() -> None:
        step = DiarizationModule.training_step

        def until(module: DiarizationModule, *batch: Any) -> torch.Tensor:
            if module.global_step == 4:
                kill()
            return step(module, *batch)

        DiarizationModule.training_step = until  # type: ignore[method-assign]
        train([TINY], settings, folder)

    assert in_another_process(killed) == -signal.SIGKILL
    assert stored(folder / "checkpoints" / "last.ckpt")["global_step"] == 3
    train([TINY], settings, folder, resume=True)
    assert_same_run(folder, Run(whole, whole, []))
    trained = [stored(f / "checkpoints" / "last.ckpt") for f in (folder, whole)]
    assert_same(trained[0]["trained"], trained[1]["trained"])
    groups = trained[0]["optimizer_states"][0]["param_groups"]
    assert {group.get("known_rows") for group in groups} == {None, 4}


# ---- of checkpoints that were kept


@pytest.fixture(scope="module")
def kept(material: Material, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("kept") / "exp"
    train([TINY], material.settings(**MORE, trainer__keep_every=2), folder)
    return folder / "checkpoints"


def test_checkpoints_are_kept_every_so_often(kept: Path) -> None:
    names = {"best.ckpt", "last.ckpt", "step-2.ckpt", "step-4.ckpt", "step-5.ckpt"}
    assert {path.name for path in kept.iterdir()} == names
    assert [stored(kept / f"step-{n}.ckpt")["global_step"] for n in (2, 4, 5)] == [2, 4, 5]


def test_mean_of_checkpoints(kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    paths = [str(kept / f"step-{n}.ckpt") for n in (2, 4, 5)]
    assert main(["average", *paths, "--output", str(tmp_path / "mean")]) == 0
    assert capsys.readouterr().err == f"diarize average: {tmp_path / 'mean'}: 3 checkpoints.\n"
    mean, parts = read_checkpoint(tmp_path / "mean"), [read_checkpoint(path) for path in paths]
    assert mean.card == {"average_of": paths} and mean.postprocess == parts[0].postprocess
    for name, tensor in load_checkpoint(tmp_path / "mean").state_dict().items():
        values = [part.tensors[name] for part in parts]
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, sum(values) / 3, msg=name)
        else:
            assert torch.equal(tensor, values[-1])
    assert main(["average", *paths, "--output", str(tmp_path / "mean")]) == 1
    assert "mean: holds model.safetensors, but a model that is" in capsys.readouterr().err


def test_models_that_have_no_mean(
    kept: Path, whole: Run, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    paths = [str(whole.result), str(kept / "last.ckpt")]
    assert main(["average", *paths, "--output", str(tmp_path / "mean")]) == 1
    said = capsys.readouterr().err
    assert "best.ckpt: has front_end.conv_norm=layer_norm, not batch_norm, but " in said
    assert said.endswith("last.ckpt is averaged with it. Give checkpoints of one run.\n")
    assert not (tmp_path / "mean").exists()


def test_average_of_weights_that_are_dealt_out(material: Material, tmp_path: Path) -> None:
    settings = material.settings(trainer__ema_decay=0.5, trainer__strategy="fsdp")
    with pytest.raises(ConfigError, match=r"strategy is 'fsdp', but ema_decay is 0\.5, and an av"):
        train([TINY], settings, tmp_path / "exp")
