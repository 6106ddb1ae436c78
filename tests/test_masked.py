"""Masked prediction: labels of what was heard, learned from what stands around them."""

import math
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import (
    TINY,
    Material,
    assert_same,
    in_another_process,
    kill,
    stored,
    table,
)
from torch import Tensor
from torch.nn import functional

from diarize.config import load_config
from diarize.data import Batch, Collate, Example
from diarize.errors import ConfigError
from diarize.frontend.fastconformer import FastConformer, FastConformerConfig
from diarize.frontend.log_mel import LogMel, LogMelConfig
from diarize.frontend.stacking import Stacking, StackingConfig
from diarize.masked import MaskedConfig, MaskedPrediction
from diarize.module import DiarizationModule, TrainingConfig
from diarize.training import train

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded"),
]

FEW = {"num_labels": 32, "begin_share": 0.2, "span_frames": 2}


@pytest.fixture
def front_end() -> FastConformer:
    config = load_config(TrainingConfig, [TINY])
    torch.manual_seed(0)
    return DiarizationModule(config).diarizer.front_end


@pytest.fixture
def sessions() -> tuple[Tensor, Tensor]:
    """Three sessions of noise whose colour goes up and down, (B, N); the last one is shorter."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(3, 32000, generator=generator)
    smooth = functional.avg_pool1d(noise, 9, 1, 4)
    share = torch.sin(torch.arange(32000) / 3000) ** 2
    num_samples = torch.tensor([32000, 32000, 20000])
    heard = 0.1 * (share * noise + (1 - share) * 3 * smooth)
    return heard * (torch.arange(32000) < num_samples[:, None]), num_samples


def test_labels_are_their_definition(
    front_end: FastConformer, sessions: tuple[Tensor, Tensor]
) -> None:
    """Chiu et al. 2022, section 3.1: the nearest unit vector to a unit projection."""
    masked = MaskedPrediction(front_end, MaskedConfig(**FEW | {"begin_share": 1.0}), 3)
    labels = masked.embed(front_end, *sessions)[2]
    assert labels.shape == (3, 25)
    assert torch.equal(labels >= 0, torch.arange(25) < torch.tensor([25, 25, 16])[:, None])
    energies, num_rows = LogMel(LogMelConfig(normalization="none")).eval()(*sessions)
    directions = masked.directions.double().numpy()
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0, atol=1e-6)
    for row, count in enumerate(num_rows.tolist()):
        session = energies[row, :count].double().numpy()
        session = (session - session.mean(axis=0)) / session.std(axis=0, ddof=1)
        for frame in range(-(-count // 8)):
            stacked = np.zeros((8, 80))
            known = session[8 * frame : 8 * frame + 8]
            stacked[: len(known)] = known
            projected = stacked.reshape(-1) @ masked.projection.double().numpy()
            projected /= np.linalg.norm(projected)
            nearest = np.linalg.norm(directions - projected, axis=1).argmin()
            assert labels[row, frame] == nearest


def test_labels_do_not_depend_on_what_is_masked_or_laid_over(
    front_end: FastConformer, sessions: tuple[Tensor, Tensor]
) -> None:
    full = MaskedPrediction(front_end, MaskedConfig(**FEW | {"begin_share": 1.0}), 3)
    known = full.embed(front_end, *sessions)[2]
    assert len(known.unique()) > 10  # no collapse
    masked = MaskedPrediction(front_end, MaskedConfig(**FEW, overlaid_share=1.0), 3)
    drawn = [masked.embed(front_end, *sessions)[2] for _ in range(3)]
    assert not torch.equal(drawn[0] >= 0, drawn[1] >= 0)
    for labels in drawn:
        assert torch.equal(labels[labels >= 0], known[labels >= 0])
    # Nor on how the front end hears: dither, blanked bins, no normalisation.
    other = FastConformerConfig(
        mel=LogMelConfig(dither=0.1, frequency_masks=2, normalization="none"),
        width=8, num_layers=1, num_heads=1, subsampling_channels=2,
    )  # fmt: skip
    assert torch.equal(
        MaskedPrediction(FastConformer(other), full.config, 3).embed(
            FastConformer(other), *sessions
        )[2],
        known,
    )


def test_spans_are_as_long_and_as_many_as_asked_for(front_end: FastConformer) -> None:
    masked = MaskedPrediction(front_end, MaskedConfig(num_labels=4), 0)
    torch.manual_seed(0)
    spans = masked._spans(torch.full((200,), 500), 500)
    # As published: of 10 ms, one in a hundred begins 0.4 s; edges have a little less.
    assert spans.float().mean() == pytest.approx(1 - (1 - 0.01) ** 40, abs=0.02)
    changes = functional.pad(spans.int(), (1, 1)).diff(dim=1)
    lengths = (changes == -1).nonzero()[:, 1] - (changes == 1).nonzero()[:, 1]
    ended = (changes == -1).nonzero()[:, 1] < 500
    assert lengths[ended].min() == 5
    assert not masked._spans(torch.tensor([3, 0]), 6)[:, 3:].any()
    torch.manual_seed(7)
    one = masked._spans(torch.full((4,), 100), 100)
    torch.manual_seed(7)
    assert torch.equal(one, masked._spans(torch.full((4,), 100), 100))


def test_what_is_masked_is_not_heard(
    front_end: FastConformer, sessions: tuple[Tensor, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = {}
    subsampling = front_end.subsampling.forward

    def listen(features: Tensor, num_frames: Tensor) -> tuple[Tensor, Tensor]:
        heard["features"] = features
        return subsampling(features, num_frames)

    monkeypatch.setattr(front_end.subsampling, "forward", listen)
    front_end.eval()
    masked = MaskedPrediction(front_end, MaskedConfig(**FEW), 3)
    embedding, num_frames, labels = masked.embed(front_end, *sessions)
    assert embedding.shape == (3, 25, 64) and num_frames.tolist() == [25, 25, 16]
    rows = (labels >= 0).repeat_interleave(8, dim=1)
    whole, _ = front_end.mel(*sessions)
    assert torch.equal(heard["features"][~rows], whole[~rows])
    # Normalised features have a mean of 0 and a deviation of 1.
    inside = heard["features"][rows]
    assert inside.mean().abs() < 0.01 and inside.std() == pytest.approx(0.1, abs=0.01)


def test_half_of_a_session_lies_under_the_next(front_end: FastConformer) -> None:
    masked = MaskedPrediction(front_end, MaskedConfig(num_labels=4, overlaid_share=0.5), 0)
    waveform = torch.randn(400, 200)
    num_samples = torch.full((400,), 200)
    torch.manual_seed(0)
    over = masked._overlaid(waveform, num_samples) - waveform
    laid = over.abs().sum(dim=1) > 0
    assert laid.float().mean() == pytest.approx(0.5, abs=0.1)
    assert ((over[laid] != 0).sum(dim=1) == 100).all()
    level = 20 * torch.log10(waveform.norm(dim=1) / waveform.roll(1, 0).norm(dim=1))
    place = over[laid].abs().argmax(dim=1)
    gain = 20 * torch.log10(over[laid, place].abs() / waveform.roll(1, 0)[laid, place].abs())
    beside = level[laid] - gain
    assert -5.1 < beside.min() < -4.5 and 4.5 < beside.max() < 5.1
    assert torch.equal(masked._overlaid(waveform[:1], num_samples[:1]), waveform[:1])  # alone


def test_frames_that_are_heard_cost_nothing(front_end: FastConformer) -> None:
    masked = MaskedPrediction(front_end, MaskedConfig(**FEW), 0)
    embedding = torch.randn(2, 6, 64, requires_grad=True)
    labels = torch.tensor([[3, -1, -1, 0, 9, -1], [-1, -1, 31, 5, -1, -1]])
    predicted = masked(embedding, labels)
    predicted.loss.backward()
    assert embedding.grad is not None
    assert torch.equal(embedding.grad.abs().sum(dim=2) > 0, labels >= 0)
    logits = masked.head(embedding)[labels >= 0].log_softmax(dim=1)
    right = labels[labels >= 0]
    assert predicted.loss.item() == pytest.approx(-logits[range(5), right].mean().item(), rel=1e-5)
    assert predicted.accuracy.item() == (logits.argmax(dim=1) == right).float().mean().item()
    assert predicted.perplexity.item() == pytest.approx(5.0)  # five labels, once each


def test_perplexity_tells_a_collapse(front_end: FastConformer) -> None:
    masked = MaskedPrediction(front_end, MaskedConfig(**FEW), 0)
    embedding = torch.randn(1, 8, 64)
    for labels, expected in (([4] * 8, 1.0), ([4, 7] * 4, 2.0)):
        found = masked(embedding, torch.tensor([labels])).perplexity.item()
        assert found == pytest.approx(expected)


def test_where_nothing_is_masked_nothing_is_learned(front_end: FastConformer) -> None:
    masked = MaskedPrediction(front_end, MaskedConfig(**FEW), 0)
    embedding = torch.randn(1, 2, 64, requires_grad=True)
    predicted = masked(embedding, torch.full((1, 2), -1))
    predicted.loss.backward()
    assert predicted.loss.item() == 0.0 and predicted.loss.dtype == torch.float32
    # Every process of several must have every gradient.
    assert embedding.grad is not None and not embedding.grad.any()
    assert all(p.grad is not None and not p.grad.any() for p in masked.parameters())


SETTINGS = ["masked_weight=1", "diarization_weight=0", "masked.num_labels=32"]


def batch_of(module: DiarizationModule, a_session: Callable) -> Batch:
    examples = [Example("s", *a_session(count, 3.2)) for count in (1, 2)]
    return Collate(module.diarizer.grid, 4)(examples)


def test_what_is_masked_is_learned_from_its_neighbours(a_session: Callable) -> None:
    more = ["masked.begin_share=0.1", "diarizer.front_end.dropout=0"]
    torch.manual_seed(0)
    module = DiarizationModule(load_config(TrainingConfig, [TINY], [*SETTINGS, *more]))
    batch = batch_of(module, a_session)
    optimizer = torch.optim.AdamW(module.parameters(), 3e-3)
    began, losses, right = time.process_time(), [], []
    for _ in range(80):
        loss, logits, parts = module._step(batch)
        losses.append(loss.item())
        right.append(parts["masked_accuracy"].item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert logits is None
    assert set(parts) == {"masked_loss", "masked_accuracy", "label_perplexity"}
    # Guessing one of 32 labels costs 3.5; two sessions are known by heart in a while.
    assert losses[0] == pytest.approx(math.log(32), abs=0.8)
    assert np.mean(losses[-10:]) < 0.5 * np.mean(losses[:10])
    assert np.mean(right[-10:]) > 2 * np.mean(right[:10])
    assert time.process_time() - began < 20


def test_only_the_front_end_and_the_guesses_are_trained(a_session: Callable) -> None:
    module = DiarizationModule(load_config(TrainingConfig, [TINY], SETTINGS))
    module._step(batch_of(module, a_session))[0].backward()
    trained = {n for n, p in module.named_parameters() if p.requires_grad}
    assert {".".join(n.split(".")[:2]) for n in trained} == {"diarizer.front_end", "masked.head"}
    found = {n for n, p in module.named_parameters() if p.grad is not None and p.grad.any()}
    assert len(found) > 0.9 * len(trained)


def test_it_is_taught_beside_others_and_left_out_of_validation(a_session: Callable) -> None:
    settings = ["masked_weight=0.5", "masked.num_labels=32", "count_weight=0.2"]
    module = DiarizationModule(load_config(TrainingConfig, [TINY], settings))
    batch = batch_of(module, a_session)
    loss, _, parts = module._step(batch)
    blend = (parts["sort_loss"] + parts["permutation_invariant_loss"]) / 2
    beside = 0.5 * parts["masked_loss"] + 0.2 * parts["count_loss"]
    assert loss.item() == pytest.approx((blend + beside).item(), rel=1e-5)
    _, logits, parts = module.eval()._step(batch)
    assert "masked_loss" not in parts and logits is not None
    expected = module.diarizer(batch.signal, batch.num_samples)[0]
    assert torch.equal(logits, expected[:, : logits.shape[1]])  # nothing is masked


def test_loss_is_float32_under_mixed_precision(a_session: Callable) -> None:
    module = DiarizationModule(load_config(TrainingConfig, [TINY], SETTINGS))
    batch = batch_of(module, a_session)
    torch.manual_seed(0)
    plain = module._step(batch)[2]
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        low = module._step(batch)[2]
    assert low["masked_loss"].dtype == torch.float32
    assert low["masked_loss"].item() == pytest.approx(plain["masked_loss"].item(), rel=0.05)
    assert low["label_perplexity"] == plain["label_perplexity"]  # labels are those of float32


def test_a_killed_run_ends_as_one_that_was_not(
    material: Material, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Spans, projection and directions included."""
    settings = material.settings(
        masked_weight=1.0, diarization_weight=0.0, masked__num_labels=16,
        masked__overlaid_share=0.5, trainer__max_steps=5, trainer__ema_decay=0.9,
    )  # fmt: skip
    train([TINY], settings, tmp_path / "whole")
    told = r"label_perplexity \d+\.\d+, loss \d\.\d+, masked_accuracy 0\.\d+, masked_loss \d\.\d+"
    assert re.search(told, capsys.readouterr().err)

    def killed() -> None:
        step = DiarizationModule.training_step

        def until(module: DiarizationModule, batch: Batch, index: int) -> Tensor:
            if module.trainer.global_step == 4:
                kill()
            return step(module, batch, index)

        DiarizationModule.training_step = until  # type: ignore[method-assign]
        train([TINY], settings, tmp_path / "exp")

    assert in_another_process(killed) == -9
    train([TINY], settings, tmp_path / "exp", resume=True)
    one, other = (
        stored(tmp_path / name / "checkpoints" / "last.ckpt") for name in ("exp", "whole")
    )
    assert "masked.projection" in one["state_dict"]
    for part in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
        assert_same(one[part], other[part], part)
    rows = [[r | {"data_wait": ""} for r in table(tmp_path / n)] for n in ("exp", "whole")]
    assert rows[0] == rows[1]
    assert float(rows[0][-1]["train_label_perplexity"]) > 1
    assert 0 <= float(rows[0][-1]["train_masked_accuracy"]) <= 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["masked_weight=-1"], r"masked_weight is -1, but it is at least 0"),
        (["masked.num_labels=1"], r"masked\.num_labels is 1, but it is at least 2"),
        (["masked.begin_share=1.5"], r"masked\.begin_share is 1\.5, but a share is from 0 to 1"),
        (
            ["masked_weight=1", "masked.overlaid_share=0.5"],
            r"overlaid_share is 0\.5, but diarization_weight is above 0, and nobody says who",
        ),
        (
            [*SETTINGS, "optimizer.front_end_share=0"],
            r"front_end_share is 0, but masked_weight is above 0, for the front end to learn from",
        ),
        (
            [
                "masked_weight=1",
                "rehearsal.latency='chunk=10,left=1,right=1,fifo=0,cache=16,update=10'",
            ],
            r"masked_weight is 1, but rehearsal\.latency is chunk=10",
        ),
    ],
)
def test_mistakes_are_told(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(TrainingConfig, [TINY], settings)


def test_a_front_end_without_context_is_refused() -> None:
    message = (
        "masked_weight is above 0, but diarizer.front_end is Stacking, and only FastConformer "
        "hears log-mel features with their context. Choose that, or set masked_weight=0."
    )
    with pytest.raises(ConfigError, match=message):
        MaskedPrediction(Stacking(StackingConfig()), MaskedConfig(), 0)
