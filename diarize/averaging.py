"""The moving average of a run's weights, which is steadier than where the last steps left them."""

from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor


class MovingAverage(Callback):
    """Keeps an average beside the weights; it is what is validated, and saved as the model.

    Checkpoints hold it as ``state_dict``, and as ``trained`` the weights that a resumed run goes on
    with. It stands before what saves them among the callbacks, so that a step is counted first.

    Args:
        decay: share of the average that a step leaves as it was; less in the first steps, of which
            there is little to average: (1 + step) / (10 + step).
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._average: dict[str, Tensor] = {}
        self._trained: dict[str, Tensor] = {}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Begin with the weights as they are, unless the run is resumed."""
        known = self._average or module.state_dict()
        self._average = {name: t.detach().clone().to(module.device) for name, t in known.items()}

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Add the weights after a step."""
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return
        step = trainer.global_step
        share = 1 - min(self._decay, (1 + step) / (10 + step))
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                self._average[name].lerp_(tensor, share)
            else:
                self._average[name].copy_(tensor)

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Validate the average."""
        self._trained = {name: tensor.clone() for name, tensor in module.state_dict().items()}
        module.load_state_dict(self._average)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Go on with the weights."""
        module.load_state_dict(self._trained)
        self._trained = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """The average is the model."""
        checkpoint["trained"] = checkpoint["state_dict"]
        checkpoint["state_dict"] = self._average

    def on_load_checkpoint(
        self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on with both."""
        self._average = cast(dict[str, Tensor], checkpoint["state_dict"])
        module.load_state_dict(checkpoint["trained"])
