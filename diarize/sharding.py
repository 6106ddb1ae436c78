"""Models too large for one device: each rank keeps a share of weights, gradients and moments.

What a layer needs is gathered as it is reached and let go behind it (Zhao et al. 2023, "PyTorch
FSDP", arXiv:2304.11277).
"""

from typing import Any

import torch
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method


class Sharding(ModelParallelStrategy):
    """Lightning's side of it; checkpoints are gathered into one file, as those of one device.

    Args:
        num_ranks: processes that share the model.
    """

    def __init__(self, num_ranks: int) -> None:
        super().__init__(
            data_parallel_size=num_ranks, tensor_parallel_size=1, save_distributed_checkpoint=False
        )

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """All weights, in the first process.

        When they are loaded, torch hands them on as they lie in memory, whatever their strides.
        """
        gathered = super().lightning_module_state_dict()
        return {name: tensor.contiguous() for name, tensor in gathered.items()}


def shard(model: nn.Module, layers: list[nn.Module], mesh: DeviceMesh, *steps: str) -> None:
    """Deal out a model's weights.

    Args:
        model: changed in place.
        layers: parts of it that are gathered one at a time; the rest is gathered as a whole.
        mesh: of the ranks.
        steps: methods of the model in which it is used, beside ``forward``.
    """
    for layer in layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    for step in steps:
        register_fsdp_forward_method(model, step)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """All of a tensor that may be dealt out."""
    gathered: Any = getattr(tensor, "full_tensor", None)
    return tensor if gathered is None else gathered()
