import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from diarize.errors import ConfigError
from diarize.losses import (
    LossConfig,
    _cross_entropy,
    _reordered,
    attention_loss,
    best_order,
    count_loss,
    diarization_loss,
    layer_loss,
    permutation_invariant_loss,
    phantom_loss,
    sort_loss,
    sort_order,
)

SURE = 10.0
"""A logit that means yes."""


def activity(*rows: str) -> Tensor:
    """One item (1, T, S) from a drawing: a row per speaker, a letter per frame, # is speech."""
    return torch.tensor([[letter == "#" for letter in row] for row in rows]).float().T[None]


def logits_of(target: Tensor) -> Tensor:
    """Logits of a network that is sure of a target."""
    return (2 * target - 1) * SURE


def all_frames(target: Tensor) -> Tensor:
    return torch.full((target.shape[0],), target.shape[1])


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, activity and numbers of frames of a batch with one to five speakers."""
    torch.manual_seed(draw(st.integers(0, 10_000)))
    speakers, frames = draw(st.integers(1, 5)), draw(st.integers(1, 12))
    items = draw(st.integers(1, 3))
    truth = (torch.rand(items, frames, speakers) < draw(st.sampled_from([0.1, 0.5]))).float()
    num_frames = torch.randint(1, frames + 1, (items,))
    return torch.randn(items, frames, speakers) * 2, truth, num_frames


def brute_force(
    logits: Tensor,
    truth: Tensor,
    num_frames: Tensor,
    match: str,
    arrival: bool,
    tolerance: int = 0,
) -> float:
    """The loss by trying every order of speakers."""
    entropies = []
    for item, target, frames in zip(logits, truth, num_frames, strict=True):
        item, target = item[:frames].double(), target[:frames].double()
        first = [next((t for t in range(frames) if s[t] >= 0.5), frames) for s in target.T]
        best = (-np.inf, target)
        for order in itertools.permutations(range(target.shape[1])):
            late = [abs(first[s] - n) for s, n in zip(order, sorted(first), strict=True)]
            if arrival and max(late) > tolerance:
                continue
            ordered = target[:, list(order)]
            entropy = functional.binary_cross_entropy_with_logits(item, ordered)
            gain = (ordered * item.sigmoid()).sum() if match == "agreement" else -entropy
            if gain > best[0] + 1e-9:
                best = (float(gain), ordered)
        entropies.append(
            functional.binary_cross_entropy_with_logits(item, best[1], reduction="none").flatten()
        )
    return torch.cat(entropies).mean().item()


def test_speakers_take_slots_in_order_of_arrival() -> None:
    truth = activity(
        "....####",
        "##......",
        "..##..#.",
    )
    assert sort_order(torch.zeros(1, 8, 3), truth, all_frames(truth)).tolist() == [[1, 2, 0]]
    arrived = truth[:, :, [1, 2, 0]]
    assert sort_loss(logits_of(arrived), truth, all_frames(truth)).item() < 1e-4
    assert sort_loss(logits_of(truth), truth, all_frames(truth)).item() > 1


def test_speakers_who_start_together_agree_with_the_prediction() -> None:
    truth = activity(
        "..###...",
        "..#####.",
        "#.......",
        "........",
    )
    wanted = truth[:, :, [2, 1, 0, 3]]
    assert sort_order(logits_of(wanted), truth, all_frames(truth)).tolist() == [[2, 1, 0, 3]]
    assert sort_loss(logits_of(wanted), truth, all_frames(truth)).item() < 1e-4
    # Agreement decides among those who start together, and never moves who was first.
    late = truth[:, :, [0, 1, 3, 2]]
    assert sort_order(logits_of(late), truth, all_frames(truth))[0, 0] == 2


def test_silent_speakers_come_last() -> None:
    truth = activity("....", "...#", "....")
    assert sort_order(torch.zeros(1, 4, 3), truth, all_frames(truth))[0, 0] == 1


def test_a_speaker_arrives_with_half_a_frame() -> None:
    soft = torch.tensor([[[0.4, 0.0], [0.4, 0.5], [1.0, 0.0]]])
    assert sort_order(torch.zeros(1, 3, 2), soft, torch.tensor([3])).tolist() == [[1, 0]]


def test_speech_in_padding_is_no_arrival() -> None:
    truth = activity("..#", "#..")
    assert sort_order(torch.zeros(1, 3, 2), truth.flip(1), torch.tensor([2])).tolist() == [[0, 1]]
    assert sort_order(torch.zeros(1, 3, 2), truth, torch.tensor([2])).tolist() == [[1, 0]]


@settings(deadline=None, max_examples=25)
@given(batches(), st.sampled_from(["agreement", "bce"]))
def test_permutation_invariant_loss_equals_brute_force(
    batch: tuple[Tensor, Tensor, Tensor], match: str
) -> None:
    expected = brute_force(*batch, match=match, arrival=False)
    assert permutation_invariant_loss(*batch, match=match).item() == pytest.approx(
        expected, rel=1e-5, abs=1e-6
    )


@settings(deadline=None, max_examples=25)
@given(batches(), st.sampled_from([0, 0, 1, 3]))
def test_sort_loss_equals_brute_force(batch: tuple[Tensor, Tensor, Tensor], tolerance: int) -> None:
    expected = brute_force(*batch, match="agreement", arrival=True, tolerance=tolerance)
    assert sort_loss(*batch, tolerance).item() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_speakers_who_start_nearly_together_may_be_told_to() -> None:
    truth = activity(
        "..######",
        "...#####",
        "......##",
    )
    wanted = truth[:, :, [1, 0, 2]]
    batch = logits_of(wanted), truth, all_frames(truth)
    assert sort_order(*batch).tolist() == [[0, 1, 2]]
    assert sort_order(*batch, tolerance_frames=1).tolist() == [[1, 0, 2]]
    assert sort_loss(*batch).item() > 0.5 > 1e-3 > sort_loss(*batch, 1).item()
    # The third is too late for any other slot, whatever the network says.
    late = logits_of(truth[:, :, [2, 1, 0]])
    assert sort_order(late, truth, all_frames(truth), tolerance_frames=2)[0, 2] == 2


def test_speakers_who_are_never_half_active_take_no_slot_from_others() -> None:
    """As published: the first speaker alone decides, though the sum of both is less so."""
    truth = torch.tensor([[[1.0, 0.4]] * 5 + [[1.0, 0.0]] * 5])
    posterior = torch.tensor([[[0.9, 0.48]] * 5 + [[0.1, 0.48]] * 5])
    # Of the first, slots hold 5.0 and 4.8; of the second, 1.8 and 0.96.
    batch = posterior.logit(), truth, all_frames(truth)
    assert best_order(*batch).tolist() == [[0, 1]]
    truth[0, 0, 1] = 0.6  # now there for a frame
    assert best_order(*batch).tolist() == [[1, 0]]


@settings(deadline=None, max_examples=15)
@given(batches(), st.permutations(range(5)))
def test_order_of_speakers_changes_neither_loss(
    batch: tuple[Tensor, Tensor, Tensor], order: list[int]
) -> None:
    logits, truth, num_frames = batch
    moved = truth[:, :, [s for s in order if s < truth.shape[2]]]
    for loss in (sort_loss, permutation_invariant_loss):
        assert loss(logits, moved, num_frames).item() == pytest.approx(
            loss(logits, truth, num_frames).item(), 1e-5
        )


@settings(deadline=None, max_examples=15)
@given(batches())
def test_permutation_invariant_loss_never_exceeds_sort_loss(
    batch: tuple[Tensor, Tensor, Tensor],
) -> None:
    assert permutation_invariant_loss(*batch, match="bce") <= sort_loss(*batch) + 1e-6


def test_order_of_slots_changes_the_sort_loss_alone() -> None:
    truth = activity("##....##", "..####..")
    swapped = logits_of(truth).flip(2)
    assert permutation_invariant_loss(swapped, truth, all_frames(truth)).item() < 1e-4
    assert sort_loss(swapped, truth, all_frames(truth)).item() > 1


@pytest.mark.parametrize("loss", [sort_loss, permutation_invariant_loss])
def test_padding_never_counts(loss: object) -> None:
    logits, truth = torch.randn(2, 9, 3), (torch.rand(2, 9, 3) > 0.5).float()
    num_frames = torch.tensor([9, 4])
    clean = loss(logits, truth, num_frames)
    per_item = [
        loss(logits[i : i + 1, :n], truth[i : i + 1, :n], num_frames[i : i + 1])
        for i, n in enumerate([9, 4])
    ]
    torch.testing.assert_close(clean, (9 * per_item[0] + 4 * per_item[1]) / 13)
    logits[1, 4:], truth[1, 4:] = float("nan"), 1.0
    logits.requires_grad_()
    padded = loss(logits, truth, num_frames)
    padded.backward()
    torch.testing.assert_close(padded, clean)
    assert logits.grad is not None
    assert logits.grad.isfinite().all() and not logits.grad[1, 4:].any()


def test_nothing_valid_costs_nothing() -> None:
    empty = torch.zeros(1, 5, 2), torch.ones(1, 5, 2), torch.tensor([0])
    assert sort_loss(*empty) == permutation_invariant_loss(*empty) == 0


def test_loss_is_float32_under_autocast() -> None:
    truth = activity("##....##", "..####..")
    logits = torch.randn(1, 8, 2)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = diarization_loss(logits, truth.bfloat16(), all_frames(truth), LossConfig())
    exact, _ = diarization_loss(logits, truth, all_frames(truth), LossConfig())
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, exact)


def test_divergence_shows_in_the_loss() -> None:
    truth = activity("##....##", "..####..")
    logits = torch.full((1, 8, 2), float("nan"))
    loss, _ = diarization_loss(logits, truth, all_frames(truth), LossConfig())
    assert loss.isnan()


def naive_phantom_loss(
    logits: Tensor, target: Tensor, num_frames: Tensor, threshold: float, temperature: float
) -> float:
    """The formula, slot by slot."""
    items, _, slots = logits.shape
    total = 0.0
    for item in range(items):
        for slot in range(slots):
            frames = range(int(num_frames[item]))
            if any(target[item, t, slot] > 0.5 for t in frames):
                continue
            column = [logits[item, t, slot].item() for t in frames]
            chosen = [z for z in column if 1 / (1 + math.exp(-z)) > threshold]
            if chosen:
                powers = [math.exp(math.log1p(math.exp(z)) / temperature) for z in chosen]
                total += temperature * math.log(sum(powers) / len(chosen))
    return total / (items * slots)


@settings(deadline=None, max_examples=25)
@given(batches(), st.sampled_from([0.1, 0.25, 0.6]), st.sampled_from([0.3, 0.5, 2.0]))
def test_phantom_loss_is_its_definition(
    batch: tuple[Tensor, Tensor, Tensor], threshold: float, temperature: float
) -> None:
    logits, truth, num_frames = batch
    truth[:, :, 0] = 0.0
    expected = naive_phantom_loss(*batch, threshold, temperature)
    found = phantom_loss(*batch, threshold, temperature)
    assert found.item() == pytest.approx(expected, rel=1e-4, abs=1e-6)


def test_phantoms_alone_are_pushed_down() -> None:
    truth = activity(
        "##....",
        "......",
        "......",
    )
    logits = torch.tensor([[[-3.0, 2.0, -4.0]] * 2 + [[4.0, -2.0, -4.0]] * 4], requires_grad=True)
    loss = phantom_loss(logits, truth, torch.tensor([5]), 0.25, 0.5)
    loss.backward()
    # Not the slot of who is there, however wrong; not frames at or below the threshold.
    assert loss.item() == pytest.approx(functional.softplus(torch.tensor(2.0)).item() / 3)
    expected = activity("......", "##....", "......").bool()
    assert torch.equal(logits.grad > 0, expected) and not logits.grad[~expected].any()
    quiet = torch.full((1, 6, 3), -4.0, requires_grad=True)
    nothing = phantom_loss(quiet, truth, torch.tensor([6]), 0.25, 0.5)
    nothing.backward()
    assert nothing.item() == 0 and not quiet.grad.any()


def test_a_slot_that_either_order_fills_is_no_phantom() -> None:
    """The sort loss wants the first slot, what was learned so far is the second."""
    truth = activity("####", "....", "....")
    config = LossConfig(phantom_weight=0.3)
    logits = logits_of(truth[:, :, [1, 0, 2]])
    _, parts = diarization_loss(logits, truth, all_frames(truth), config)
    assert parts["phantom_loss"].item() == 0
    logits[..., 2] = SURE
    loss, parts = diarization_loss(logits, truth, all_frames(truth), config)
    assert parts["phantom_loss"].item() == pytest.approx(SURE / 3, rel=1e-3)
    blend = (parts["sort_loss"] + parts["permutation_invariant_loss"]) / 2
    assert loss.item() == pytest.approx(blend.item() + 0.3 * parts["phantom_loss"].item())


def test_blend_is_weighted_and_scaled() -> None:
    truth = activity("##....##", "..####..")
    batch = torch.randn(1, 8, 2), truth, all_frames(truth)
    loss, parts = diarization_loss(*batch, LossConfig(3.0, 1.0, match="bce"))
    assert set(parts) == {"sort_loss", "permutation_invariant_loss"}
    torch.testing.assert_close(parts["sort_loss"], sort_loss(*batch))
    expected = (3 * sort_loss(*batch) + permutation_invariant_loss(*batch, match="bce")) / 4
    torch.testing.assert_close(loss, expected)


def test_impossible_settings_are_refused() -> None:
    truth = activity("##", "..")
    batch = torch.zeros(1, 2, 2), truth, all_frames(truth)
    with pytest.raises(ConfigError, match="sort_weight is 0 and permutation_inv.* is 0, but train"):
        LossConfig(0.0, 0.0)
    with pytest.raises(ConfigError, match="sort_weight is -1, but it is at least 0"):
        LossConfig(-1.0)
    with pytest.raises(ConfigError, match="sort_tolerance_frames is -1, but it is at least 0"):
        LossConfig(sort_tolerance_frames=-1)
    with pytest.raises(ConfigError, match="phantom_temperature is 0, but losses of frames are div"):
        LossConfig(phantom_temperature=0)
    with pytest.raises(ConfigError, match="phantom_threshold is 1.5, but a share is from 0 to 1"):
        LossConfig(phantom_threshold=1.5)
    with pytest.raises(ConfigError, match="match is 'best', but it may be agreement or bce"):
        LossConfig(match="best")
    with pytest.raises(ConfigError, match="match is 'best', but it may be agreement or bce"):
        permutation_invariant_loss(*batch, match="best")
    with pytest.raises(ValueError, match=r"shape \(1, 2, 3\), but activity has \(1, 2, 2\)"):
        sort_loss(torch.zeros(1, 2, 3), truth, all_frames(truth))


@pytest.mark.parity
@pytest.mark.parametrize("case", range(12))
def test_targets_and_losses_are_the_published_ones(case: int, shared: Path) -> None:
    units = np.load(shared / "parity" / "nemo" / "units.npz")
    stored = {
        name: torch.as_tensor(units[f"tgt{case}_{name}"])
        for name in ("labels", "preds", "lens", "ats", "pil", "loss_ats", "loss_pil")
    }
    posterior, truth, num_frames = stored["preds"], stored["labels"], stored["lens"]
    logits = posterior.double().logit()
    # The reference matches over padding, too, which in its training is silent; here it is not.
    for order, name in ((sort_order, "ats"), (best_order, "pil")):
        target = _reordered(truth, order(logits, truth, all_frames(truth)))
        torch.testing.assert_close(target, stored[name])
        loss = _cross_entropy(logits, target, num_frames)
        torch.testing.assert_close(loss, stored[f"loss_{name}"], atol=1e-6, rtol=1e-5)


# ---- what is taught beside


TALK = activity(
    "##..#..",
    "...##.#",
)
"""Frames alone: 0 and 1 of the first speaker, 3 and 6 of the second; both in 4, nobody in 2, 5."""


def attending(*rows: str) -> Tensor:
    """Scores (1, 1, T, T) of a head whose frames look evenly at the frames marked #."""
    looked_at = torch.tensor([[letter == "#" for letter in row] for row in rows]).float()
    return (looked_at * 2 * SURE)[None, None]


def test_even_attention_to_ones_own_frames_costs_nothing() -> None:
    # In frames 2 and 5 nobody talks: where they look is free.
    own = ["##.....", "##.....", ".......", "...#..#", "##.#..#", "#......", "...#..#"]
    assert attention_loss(attending(*own), TALK, all_frames(TALK)).item() == pytest.approx(
        0, abs=1e-4
    )
    # Frames of several speakers or none are not looked at, whatever their scores.
    loud = attending(*own)
    loud[..., [2, 4, 5]] = 100.0
    assert attention_loss(loud, TALK, all_frames(TALK)).item() == pytest.approx(0, abs=1e-4)
    # Only to its neighbour, or to the other speaker: both are wrong.
    near = attending(*["#......", *own[1:]])
    assert attention_loss(near, TALK, all_frames(TALK)).item() > 1
    other = attending(*["...#..#", *own[1:]])
    assert attention_loss(other, TALK, all_frames(TALK)).item() > 1


@settings(deadline=None, max_examples=20)
@given(batches(), st.integers(1, 3))
def test_attention_loss_is_its_definition(batch: tuple[Tensor, Tensor, Tensor], heads: int) -> None:
    _, truth, num_frames = batch
    scores = torch.randn(truth.shape[0], heads, truth.shape[1], truth.shape[1])
    divergences = []
    for item, target, frames in zip(scores, truth, num_frames, strict=True):
        target = target[:frames]
        alone = [t for t in range(frames) if target[t].sum() == 1]
        for row in range(frames):
            own = [t for t in alone if (target[t] * target[row]).any()]
            for head in item:
                if own:
                    weights = head[row, alone].double().softmax(0)
                    seen = torch.stack([weights[alone.index(t)] for t in own])
                    divergences.append((-(seen * len(own)).log() / len(own)).sum().item())
    expected = np.mean(divergences) if divergences else 0.0
    assert attention_loss(scores, truth, num_frames).item() == pytest.approx(expected, abs=1e-4)


def test_where_nobody_talks_alone_attention_is_free() -> None:
    together = activity("##.", "##.")
    scores = torch.randn(1, 2, 3, 3, requires_grad=True)
    value = attention_loss(scores, together, all_frames(together))
    value.backward()
    assert value.item() == 0 and not scores.grad.any()


def test_count_loss_tells_silence_one_and_several() -> None:
    truth = activity("##...", "#.#..", "#....")
    sure = functional.one_hot(torch.tensor([[2, 1, 1, 0, 0]]), 3).float() * 2 * SURE
    assert count_loss(sure, truth, all_frames(truth)).item() < 1e-4
    assert count_loss(torch.zeros(1, 5, 3), truth, all_frames(truth)).item() == pytest.approx(
        np.log(3)
    )
    wrong = sure.clone()
    wrong[0, 4] = torch.tensor([0.0, 2 * SURE, 0.0])
    assert count_loss(wrong, truth, all_frames(truth)).item() == pytest.approx(
        2 * SURE / 5, rel=1e-3
    )
    assert (
        count_loss(wrong, truth, torch.tensor([4])).item() < 1e-4
    )  # what is padded does not count
    assert count_loss(wrong, truth, torch.tensor([0])).item() == 0
    half = torch.full((1, 5, 3), 0.5)  # of a soft target: nobody
    assert count_loss(sure[:, [3] * 5], half, all_frames(half)).item() < 1e-4


@given(batches())
@settings(deadline=None, max_examples=20)
def test_layers_are_supervised_by_their_weights(batch: tuple[Tensor, Tensor, Tensor]) -> None:
    logits, truth, num_frames = batch
    layers = [logits, -logits, logits * 2]
    losses = [diarization_loss(e, truth, num_frames, LossConfig())[0].item() for e in layers]
    for weights, each in (
        ([1.0], [1, 1, 1]),
        ([0.5, 0.2], [0.5, 0.2, 0.2]),
        ([0, 0, 3], [0, 0, 3]),
    ):
        found = layer_loss(layers, truth, num_frames, LossConfig(layer_weights=weights))
        expected = sum(w * loss for w, loss in zip(each, losses, strict=True))
        assert found.item() == pytest.approx(expected, rel=1e-5)
    for weights in ([], [1.0, -0.5]):
        with pytest.raises(ConfigError, match="layer_weights is .* none below 0"):
            LossConfig(layer_weights=weights)
