"""Layers that compute again what they did not keep: the same numbers, in less memory."""

import functools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from runs import TINY, Material, stored
from torch import Tensor

from diarize.config import load_config
from diarize.data import Collate, Example
from diarize.module import DiarizationModule, TrainingConfig
from diarize.training import train

pytestmark = pytest.mark.usefixtures("one_thread")

ENCODERS = {
    "transformer": [],
    "sortformer": [
        "diarizer.encoder._target_=diarize.encoder.sortformer.SortFormer",
        "diarizer.encoder.num_layers=3",
    ],
    "set_transformer": ["diarizer.encoder._target_=diarize.encoder.set_transformer.SetTransformer"],
}


PLAIN = ["diarizer.front_end.num_layers=1", "diarizer.encoder.num_layers=1"]


class Kept:
    """Bytes that a forward pass leaves to its backward pass, each tensor once."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}

    def __call__(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        self.sizes[storage.data_ptr()] = storage.nbytes()
        return tensor


def learn(session: tuple, *settings: str) -> tuple[float, int, dict[str, Tensor]]:
    """Loss, bytes kept, and gradients and buffers by name."""
    more = ["diarizer.front_end.conv_norm=batch_norm", "attention_weight=0", *settings]
    more += [f"diarizer.front_end.{name}=0.2" for name in ("dropout", "attention_dropout")]
    torch.manual_seed(0)
    module = DiarizationModule(load_config(TrainingConfig, [TINY], more))
    batch = Collate(module.diarizer.grid, 4)([Example("a", *session)])
    torch.manual_seed(1)
    kept = Kept()
    with torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor):
        loss, _, _ = module._step(batch)
    loss.backward()
    gradients = {n: p.grad for n, p in module.named_parameters() if p.grad is not None}
    return loss.item(), sum(kept.sizes.values()), gradients | dict(module.named_buffers())


@pytest.mark.parametrize("encoder", ENCODERS)
def test_gradients_and_statistics_are_the_same(a_session: Callable, encoder: str) -> None:
    """With dropout, which is drawn again, and statistics, which learn from the batch once."""
    session = a_session(2, 6.4)
    loss, kept, found = learn(session, *ENCODERS[encoder])
    again, kept_again, found_again = learn(session, *ENCODERS[encoder], "trainer.recompute=true")
    assert again == loss
    assert found.keys() == found_again.keys() and len(found) > 60
    for name, tensor in found.items():
        assert torch.equal(found_again[name], tensor), name
    assert any(name.endswith("num_batches_tracked") for name in found)
    assert kept_again < 0.7 * kept


def test_nothing_changes_where_nothing_is_learned(a_session: Callable) -> None:
    module = DiarizationModule(load_config(TrainingConfig, [TINY], ["trainer.recompute=true"]))
    batch = Collate(module.diarizer.grid, 4)([Example("a", *a_session(2, 3.2))])
    plain = DiarizationModule(load_config(TrainingConfig, [TINY]))
    plain.load_state_dict(module.state_dict())
    with torch.no_grad():
        assert torch.equal(plain.eval()._step(batch)[0], module.eval()._step(batch)[0])


def test_run_is_the_same(material: Material, tmp_path: Path) -> None:
    weights = []
    for name in ("false", "true"):
        settings = material.settings(trainer__recompute=name, trainer__max_steps=3)
        train([TINY], settings, tmp_path / name)
        weights.append(stored(tmp_path / name / "checkpoints" / "last.ckpt")["state_dict"])
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
def test_compiled_layers_say_the_same(a_session: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced as torch.compile does, and run as traced: what it then fuses takes minutes."""
    traced = []

    def run_as_traced(graph: torch.fx.GraphModule, inputs: list) -> Callable:
        traced.append(graph)
        return graph.forward

    compiled = functools.partial(torch.compile, backend=run_as_traced)
    session = a_session(2, 3.2)
    loss, _, found = learn(session, *PLAIN)
    monkeypatch.setattr(torch, "compile", compiled)
    torch.compiler.reset()
    again, _, found_again = learn(session, *PLAIN, "trainer.compile=true", "trainer.recompute=true")
    assert len(traced) >= 2  # a layer of the front end, one of the encoder
    assert again == pytest.approx(loss, rel=1e-6)
    assert found_again.keys() == found.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(found_again[name], tensor, msg=name)
