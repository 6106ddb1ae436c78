"""Muon: singular values made alike, the published steps, AdamW for the rest, and resuming."""

import copy

import pytest
import torch

from diarize.muon import Muon, orthogonalize


@pytest.mark.parametrize("shape", [(5, 12, 30), (5, 30, 12), (5, 16, 16)], ids=str)
def test_orthogonal_matrices_keep_their_directions(shape: tuple[int, int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape, generator=generator), full_matrices=False)
    values = torch.logspace(-1, 1, left.shape[2])
    turned = orthogonalize(left * values @ right)
    inside = left.transpose(1, 2) @ turned @ right.transpose(1, 2)
    diagonal = inside.diagonal(dim1=1, dim2=2)
    assert diagonal.min() > 0.6 and diagonal.max() < 1.3
    torch.testing.assert_close(inside, torch.diag_embed(diagonal), atol=1e-4, rtol=0)


def test_nothing_becomes_nothing() -> None:
    assert orthogonalize(torch.zeros(2, 3, 4)).eq(0).all()


def weights() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    shapes = [(24, 8), (8, 24), (24, 8), (8,)]
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def groups(of: list[torch.nn.Parameter]) -> list[dict]:
    return [
        {"params": of[:3], "lr": 0.02, "weight_decay": 0.1, "orthogonal": True},
        {"params": of[3:], "lr": 0.02, "weight_decay": 0.0},
    ]


def drive(of: list[torch.nn.Parameter], optimizers: list, steps: range) -> None:
    """Steps whose gradients the step decides."""
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        for parameter in of:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        for optimizer in optimizers:
            optimizer.step()


def test_a_cpu_takes_steps_at_once_that_may_be_clipped() -> None:
    ours, theirs = weights(), weights()
    optimizer = Muon([{"params": ours, "lr": 0.02, "weight_decay": 0.1}], (0.9, 0.98))
    assert optimizer.param_groups[0]["fused"]
    assert not optimizer._step_supports_amp_scaling  # else Lightning refuses to clip in bf16-mixed
    plain = torch.optim.AdamW(theirs, 0.02, (0.9, 0.98), weight_decay=0.1, fused=False)
    drive(ours, [optimizer], range(4))
    drive(theirs, [plain], range(4))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_steps_are_those_of_torch() -> None:
    reference = getattr(torch.optim, "Muon", None)
    if reference is None:
        pytest.skip("torch.optim.Muon came with torch 2.9")
    ours, theirs = weights(), weights()
    drive(ours, [Muon(groups(ours), (0.9, 0.98))], range(6))
    muon = reference(
        theirs[:3], lr=0.02, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw"
    )
    adamw = torch.optim.AdamW(theirs[3:], lr=0.02, betas=(0.9, 0.98), weight_decay=0.0)
    drive(theirs, [muon, adamw], range(6))
    start = weights()
    for one, other, before in zip(ours[:3], theirs[:3], start[:3], strict=True):
        # Torch iterates in bfloat16, of 8 bits.
        assert (one - other).norm() < 0.02 * (other - before).norm()
    torch.testing.assert_close(ours[3], theirs[3], rtol=0, atol=0)


def test_a_resumed_optimizer_goes_on_alike() -> None:
    whole, parted = weights(), weights()
    drive(whole, [Muon(groups(whole))], range(6))
    first = Muon(groups(parted))
    drive(parted, [first], range(3))
    second = Muon(groups(parted))
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    drive(parted, [second], range(3, 6))
    for one, other in zip(whole, parted, strict=True):
        assert torch.equal(one, other)


def test_the_closure_sees_every_group() -> None:
    parameters = weights()
    optimizer = Muon(groups(parameters))
    seen = []

    def closure() -> str:
        seen.append(len(optimizer.param_groups))
        assert torch.is_grad_enabled()
        return "loss"

    assert optimizer.step(closure) == "loss" and seen == [2]


def test_known_rows_move_as_of_a_lower_rate() -> None:
    """One parameter of two rates is two parameters of one rate each."""
    generator = torch.Generator().manual_seed(1)
    whole = torch.nn.Parameter(torch.randn(6, 5, generator=generator))
    known, new = (torch.nn.Parameter(part.detach().clone()) for part in whole.split([4, 2]))
    more = {"weight_decay": 0.1, "orthogonal": False}
    one = Muon([{"params": [whole], "lr": 0.02, "known_rows": 4, "known_share": 0.1} | more])
    two = Muon([{"params": [known], "lr": 0.002} | more, {"params": [new], "lr": 0.02} | more])
    for step in range(5):
        whole.grad = torch.randn(6, 5, generator=torch.Generator().manual_seed(step))
        known.grad, new.grad = whole.grad.split([4, 2])
        one.step()
        two.step()
    torch.testing.assert_close(whole[:4], known, atol=1e-6, rtol=0)
    torch.testing.assert_close(whole[4:], new, atol=1e-6, rtol=0)
