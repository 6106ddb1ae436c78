"""What is trained: losses that fall, a summed error rate."""

import math
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
from runs import TINY

from diarize.config import load_config
from diarize.data import Collate, Example
from diarize.errors import ConfigError, DiarizeError
from diarize.latency import parse_latency
from diarize.module import (
    DiarizationModule,
    ErrorRate,
    TrainingConfig,
)
from diarize.score import DiarizationError
from diarize.streaming import StreamingDiarizer

pytestmark = pytest.mark.usefixtures("one_thread")


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


def test_what_is_taught_beside_counts_by_its_weight(a_session: Callable) -> None:
    def parts(*settings: str) -> tuple[float, dict[str, float]]:
        torch.manual_seed(0)
        module = DiarizationModule(load_config(TrainingConfig, [TINY], [*settings]))
        batch = Collate(module.diarizer.grid, 4)([Example("s", *a_session(2, 3.2))])
        torch.manual_seed(1)
        loss, _, parts = module._step(batch)
        assert set(module.eval()._step(batch)[2]) == {"sort_loss", "permutation_invariant_loss"}
        return loss.item(), {name: value.item() for name, value in parts.items()}

    taught, told = parts("attention_weight=0.3", "count_weight=0.2")
    assert told["attention_loss"] > 1e-3 and told["count_loss"] > 1e-3
    more = 0.3 * told["attention_loss"] + 0.2 * told["count_loss"]
    blend = (told["sort_loss"] + told["permutation_invariant_loss"]) / 2
    assert taught == pytest.approx(blend + more, rel=1e-5)
    assert "attention_loss" not in parts("count_weight=0.2")[1]


def test_what_the_head_answers_from_tells_silence_and_overlap(a_session: Callable) -> None:
    settings = ["activity_weight=0.4", "diarizer.upsampling=2", "loss.phantom_weight=0.2"]
    settings += ["diarizer.head_dropout=0", "diarizer.encoder.dropout=0"]
    settings += ["diarizer.front_end.dropout=0", "diarizer.front_end.input_dropout=0"]
    settings += ["diarizer.front_end.mel.dither=0", "diarizer.head_width=24"]
    module = DiarizationModule(load_config(TrainingConfig, [TINY], settings))
    batch = Collate(module.diarizer.grid, 4)([Example("s", *a_session(2, 3.2))])
    loss, _, parts = module._step(batch)
    assert batch.activity.shape == (1, 80, 4)  # on the finer clock
    said = module.diarizer.classify_layers(*module.diarizer.embed(batch.signal, batch.num_samples))
    assert module.activity is not None and said.hidden.shape == (1, 80, 24)
    classes = batch.activity[0].sum(dim=1).long().clamp(max=2)
    assert set(classes.tolist()) == {0, 1, 2}
    expected = torch.nn.functional.cross_entropy(module.activity(said.hidden)[0], classes)
    assert parts["activity_loss"].item() == pytest.approx(expected.item(), rel=1e-5)
    blend = (parts["sort_loss"] + parts["permutation_invariant_loss"]) / 2
    more = 0.2 * parts["phantom_loss"] + 0.4 * parts["activity_loss"]
    assert loss.item() == pytest.approx((blend + more).item(), rel=1e-5)
    assert "activity_loss" not in module.eval()._step(batch)[2]
    # It is there for training alone.
    assert not any(name.startswith("activity") for name in module.diarizer.state_dict())


STREAMING = [
    "rehearsal.latency='chunk=10,left=1,right=1,fifo=0,cache=16,update=10'",
    "diarizer.front_end.mel.normalization=none",
    "data.utterances=x",
]


def test_a_streaming_model_is_trained_as_it_streams(a_session: Callable) -> None:
    torch.manual_seed(0)
    config = load_config(TrainingConfig, [TINY], STREAMING)
    module = DiarizationModule(config)
    batch = Collate(module.diarizer.grid, 4)([Example("s", *a_session(n, 3.2)) for n in (1, 2)])
    optimizer = torch.optim.AdamW(module.parameters(), 3e-3)
    began, losses = time.process_time(), []
    while not losses or (losses[-1] > 0.15 and len(losses) < 100):
        loss, logits, parts = module._step(batch)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())
        optimizer.step()
    assert losses[-1] <= 0.15 < 0.5 < losses[0] and time.process_time() - began < 20
    assert logits is not None and logits.shape == batch.activity.shape
    assert set(parts) == {"sort_loss", "permutation_invariant_loss"}
    # Validation judges what a stream would have said, and the checkpoint tells how to run it.
    _, logits, _ = module.eval()._step(batch)
    inference = module.hparams["inference"]
    latency = parse_latency(inference["latency"], inference["latencies"])
    assert latency is not None and latency.chunk == 10 and latency.cache == 16
    stream = StreamingDiarizer(module.diarizer, latency)
    posterior = np.concatenate([stream.feed(batch.signal[1].numpy()), stream.finish()])
    assert logits is not None and posterior.max() > 0.7
    np.testing.assert_allclose(logits[1].detach().sigmoid(), posterior, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        (["voice_weight=0.5"], "voice_weight is 0.5"),
        (["count_weight=1", "attention_weight=1"], "count_weight is 1 and attention_weight is 1"),
        (["diarization_weight=0", "voice_weight=1"], "voice_weight is 1"),
    ],
)
def test_what_is_taught_of_whole_windows_is_not_taught_in_streams(
    settings: list[str], found: str
) -> None:
    with pytest.raises(ConfigError, match=f"{found}, but rehearsal.latency is chunk=10,left=1"):
        load_config(TrainingConfig, [TINY], [*STREAMING, *settings])


LAYERWISE = [
    "diarizer.encoder._target_=diarize.encoder.sortformer.SortFormer",
    "diarizer.encoder.num_layers=3",
]


def test_what_layers_estimate_is_supervised_in_training(a_session: Callable) -> None:
    module = DiarizationModule(load_config(TrainingConfig, [TINY], LAYERWISE))
    batch = Collate(module.diarizer.grid, 4)([Example("s", *a_session(2, 3.2))])
    loss, _, parts = module._step(batch)
    blend = (parts["sort_loss"] + parts["permutation_invariant_loss"]) / 2
    assert parts["layer_loss"] > 0.5
    assert loss.item() == pytest.approx((blend + parts["layer_loss"]).item(), rel=1e-5)
    assert "layer_loss" not in module.eval()._step(batch)[2]
    # Also on a finer clock than that of the layers.
    finer = DiarizationModule(
        load_config(TrainingConfig, [TINY], [*LAYERWISE, "diarizer.upsampling=2"])
    )
    batch = Collate(finer.diarizer.grid, 4)([Example("s", *a_session(2, 3.25))])
    assert finer._step(batch)[2]["layer_loss"].isfinite()


def test_attention_is_taught_only_where_there_is_some() -> None:
    for setting, reason in (
        ("diarizer.encoder.num_layers=0", "but the encoder has no layer in which frames attend"),
        (
            "diarizer.encoder._target_=diarize.encoder.set_transformer.SetTransformer",
            "but the encoder has no layer in which frames attend",
        ),
        ("diarization_weight=0", "but diarization_weight is 0: the encoder is not trained"),
    ):
        settings = [setting, "attention_weight=0.1", "voice_weight=1"]
        with pytest.raises(ConfigError, match=f"attention_weight is 0.1, {reason}"):
            DiarizationModule(load_config(TrainingConfig, [TINY], settings))


def test_an_answer_that_is_no_number_is_not_scored(a_session: Callable) -> None:
    module = DiarizationModule(load_config(TrainingConfig, [TINY])).eval()
    torch.nn.init.constant_(module.diarizer.head.output.bias, math.inf)
    batch = Collate(module.diarizer.grid, 4)([Example("s", *a_session(2, 1.6))])
    with pytest.raises(DiarizeError, match=r"step 0: the validation loss is (nan|inf), but a DER"):
        module.validation_step(batch, 0)


def test_only_what_is_learned_has_gradients() -> None:
    voices = load_config(TrainingConfig, [TINY], ["voice_weight=1", "diarization_weight=0"])
    trained = {
        name
        for name, p in DiarizationModule(voices, ["ann", "ben", "cid"]).named_parameters()
        if p.requires_grad
    }
    assert {name.split(".")[0] for name in trained} == {"diarizer", "voices"}
    assert {name.split(".")[1] for name in trained} == {"front_end", "weight"}


def test_silence_is_learned_in_streams_alone(a_session: Callable) -> None:
    learned = ["diarizer.learned_silence=true"]
    for settings, trained in ((learned, False), ([*STREAMING, *learned], True)):
        module = DiarizationModule(load_config(TrainingConfig, [TINY], settings))
        batch = Collate(module.diarizer.grid, 4)([Example("s", *a_session(2, 3.2))])
        module._step(batch)[0].backward()
        found = {n for n, p in module.named_parameters() if p.requires_grad and p.grad is None}
        assert found == set()
        assert module.diarizer.silence is not None
        assert (module.diarizer.silence.grad is not None) == trained


def test_error_rate_sums_before_it_divides() -> None:
    rate = ErrorRate()
    rate.update(DiarizationError(scored=3.0, miss=0.3, false_alarm=0.2, confusion=0.1))
    rate.update(DiarizationError(scored=1.0, confusion=1.0))
    assert rate.compute().item() == pytest.approx(100 * 1.6 / 4.0)
    rate.reset()
    rate.update(DiarizationError(false_alarm=0.5))
    assert rate.compute().item() == pytest.approx(50.0)  # of one second


@pytest.mark.parametrize(("least", "times"), [(1_000_000_000, 0), (1, 4)])
def test_large_models_return_what_passes_free(
    least: int, times: int, a_session: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before two of the four layers, and behind them again; nothing is returned in validation."""
    returned: list[bool] = []
    monkeypatch.setattr("diarize.module.LARGE", least)
    monkeypatch.setattr("diarize.module.TIDIED", 2)
    monkeypatch.setattr("diarize.module.return_freed_memory", lambda: returned.append(True))
    module = DiarizationModule(load_config(TrainingConfig, [TINY], ["data.utterances=x"]))
    batch = Collate(module.diarizer.grid, 4)([Example("a", *a_session(2, 1.6))])
    with torch.no_grad():
        module._step(batch)
    assert not returned
    module._step(batch)[0].backward()
    assert len(returned) == times
