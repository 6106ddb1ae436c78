"""Muon: steps of matrices made orthogonal, all else left to AdamW.

Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the length of a
step after Liu et al., arXiv:2502.16982, section 2.2, so that AdamW's learning rates serve.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the odd polynomial that is iterated: it drives singular values from anywhere to about 1."""

ITERATIONS = 5
"""After which singular values above a hundredth of the norm lie between 0.6 and 1.3."""

STEP_SIZE = 0.2
"""Root mean square of AdamW's steps, which those of matrices are given (arXiv:2502.16982)."""


class Muon(torch.optim.AdamW):
    """AdamW; of the groups with ``orthogonal`` set, every matrix moves in all directions alike.

    Args:
        groups: parameters as AdamW takes them; ``orthogonal`` says which hold matrices, (R, C),
            of hidden layers. Their decay is AdamW's. Of the others, ``known_rows`` says how many
            rows of each parameter move a ``known_share`` of what all others do.
        betas: decay rates of AdamW's moments.
        momentum: decay rate of the mean gradient of a matrix.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        betas: tuple[float, float] = (0.9, 0.999),
        momentum: float = 0.95,
    ) -> None:
        groups = list(groups)
        weights = [weight for group in groups for weight in group["params"]]
        # On a CPU, a third of the time of the steps apart. What devices share is left to those.
        fused = all(weight.is_cpu and type(weight.data) is Tensor for weight in weights)
        super().__init__(groups, betas=betas, fused=fused or None)
        # Lightning takes a fused step for one that unscales gradients, and would not clip them.
        self._step_supports_amp_scaling = False
        for group in self.param_groups:
            group.setdefault("orthogonal", False)
            group.setdefault("momentum", momentum)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of everything; returns what the closure does."""
        loss = None
        if closure is not None:
            # Before the groups are parted: the closure may clip the gradients of all of them.
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group["orthogonal"]]
        known = [
            (parameter[: group["known_rows"]], group["known_share"])
            for group in self.param_groups
            if group.get("known_rows")
            for parameter in group["params"]
        ]
        before = [rows.clone() for rows, _ in known]
        try:
            super().step()
        finally:
            self.param_groups = groups
        for (rows, share), began in zip(known, before, strict=True):
            rows.copy_(began.lerp(rows, share))  # a step of AdamW is as long as its rate says
        for group in groups:
            if group["orthogonal"]:
                self._step_matrices(group)
        return loss

    def _step_matrices(self, group: dict[str, Any]) -> None:
        """One step of the matrices of a group, those of one shape together."""
        shapes: dict[torch.Size, list[tuple[Tensor, Tensor]]] = {}
        for matrix in group["params"]:
            if matrix.grad is not None:
                state = self.state[matrix]
                mean = state.setdefault("mean", torch.zeros_like(matrix))
                state.setdefault("step", torch.zeros(()))  # AdamW asks every state when it loads
                mean.lerp_(matrix.grad, 1 - group["momentum"])
                direction = matrix.grad.lerp(mean, group["momentum"])  # Nesterov's
                shapes.setdefault(matrix.shape, []).append((matrix, direction))
        for shape, pairs in shapes.items():
            length = group["lr"] * STEP_SIZE * math.sqrt(max(shape))
            turned = orthogonalize(torch.stack([direction for _, direction in pairs]))
            for (matrix, _), direction in zip(pairs, turned, strict=True):
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.sub_(direction.to(matrix.dtype), alpha=length)


def orthogonalize(matrices: Tensor) -> Tensor:
    """The nearest matrices with singular values near 1, by Newton and Schulz's iteration.

    Args:
        matrices: (N, R, C).

    Returns:
        (N, R, C) float32; zero where a matrix is.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.transpose(1, 2) if tall else matrices).float()
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        square = x @ x.transpose(1, 2)
        x = a * x + (b * square + c * square @ square) @ x
    return x.transpose(1, 2) if tall else x
