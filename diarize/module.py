"""What is trained: the settings of a run, and a thin Lightning module with its losses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import MeanMetric, Metric

from diarize.config import check_least, to_dict
from diarize.data import Batch
from diarize.errors import ConfigError, DiarizeError
from diarize.loaders import DataConfig, DiarizationData
from diarize.losses import LossConfig, attention_loss, count_loss, diarization_loss, layer_loss
from diarize.masked import MaskedConfig, MaskedPrediction
from diarize.memory import return_freed_memory
from diarize.model import Diarizer, DiarizerConfig, Estimates
from diarize.optimizer import OptimizerConfig, make_optimizer
from diarize.postprocess import PostprocessConfig, to_turns
from diarize.recompute import recompute
from diarize.rehearsal import Rehearsal, RehearsalConfig
from diarize.score import DiarizationError, score
from diarize.sharding import Sharding, shard
from diarize.trainer import TrainerConfig
from diarize.voices import VoiceConfig, VoiceLoss

BESIDE = {
    "voice_loss": "voice_weight",
    "masked_loss": "masked_weight",
    "count_loss": "count_weight",
    "attention_loss": "attention_weight",
}
"""What may be taught beside diarization, and the setting that says how much it counts."""


@dataclass
class TrainingConfig:
    """A whole run, as exp/NAME/config.yaml keeps it."""

    seed: int = 0
    """Of weights, sessions and dropout."""
    init: str | None = None
    """Checkpoint whose front end, and all else that fits, the run starts from."""
    voice_weight: float = 0.0
    """Weight of telling the training speakers apart (front end alone)."""
    masked_weight: float = 0.0
    """Weight of telling what stood in spans that were masked (front end alone). All else is learned
    from what is left."""
    diarization_weight: float = 1.0
    """Weight of the diarization loss; 0 trains the front end alone."""
    attention_weight: float = 0.0
    """Weight of teaching half the heads of the encoder's first layer to attend to a frame's own
    speakers, which ends the plateau before voices are told apart (`attention_loss`)."""
    count_weight: float = 0.0
    """Weight of telling frames of silence, one speaker and several apart (front end alone)."""
    activity_weight: float = 0.0
    """Weight of telling the same three apart from what the head answers from."""
    diarizer: DiarizerConfig = field(default_factory=DiarizerConfig)
    """The model."""
    rehearsal: RehearsalConfig = field(default_factory=RehearsalConfig)
    """Whether it is trained as it streams, through the speaker cache, and how."""
    data: DataConfig = field(default_factory=DataConfig)
    """What it learns from."""
    voices: VoiceConfig = field(default_factory=VoiceConfig)
    """How training speakers are told apart."""
    masked: MaskedConfig = field(default_factory=MaskedConfig)
    """What is masked, and what is asked of it."""
    loss: LossConfig = field(default_factory=LossConfig)
    """Sort loss and permutation-invariant loss, blended."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """AdamW or Muon, and the schedule."""
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    """How long, how often, on what."""
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    """From posteriors to turns, in validation and in the checkpoint."""

    def __post_init__(self) -> None:
        check_least(self, seed=0, voice_weight=0, masked_weight=0, diarization_weight=0)
        check_least(self, attention_weight=0, count_weight=0, activity_weight=0)
        if self.voice_weight == self.masked_weight == self.diarization_weight == 0:
            raise ConfigError(
                "voice_weight, masked_weight and diarization_weight are 0, but a run learns at "
                "least one. Raise one."
            )
        if self.masked_weight > 0 and self.masked.overlaid_share > 0:
            labelled = ("voice_weight", "count_weight", "diarization_weight")
            if told := [name for name in labelled if getattr(self, name) > 0]:
                raise ConfigError(
                    f"masked.overlaid_share is {self.masked.overlaid_share:g}, but {told[0]} is "
                    "above 0, and nobody says who speaks in what is laid over a session. Set one "
                    "of them to 0."
                )
        above = ("voice_weight", "masked_weight", "count_weight")
        taught = [name for name in above if getattr(self, name) > 0]
        if self.optimizer.front_end_share == 0 and taught:
            raise ConfigError(
                f"optimizer.front_end_share is 0, but {taught[0]} is above 0, for the front end to "
                f"learn from. Raise the share, or set {taught[0]}=0."
            )
        if self.optimizer.new_slots_share > 1 and self.trainer.strategy == "fsdp":
            raise ConfigError(
                f"optimizer.new_slots_share is {self.optimizer.new_slots_share:g}, but "
                "trainer.strategy is 'fsdp', which cuts the slots in shares. Choose ddp."
            )
        if self.attention_weight > 0 and self.diarization_weight == 0:
            raise ConfigError(
                f"attention_weight is {self.attention_weight:g}, but diarization_weight is 0: the "
                "encoder is not trained. Raise that, or set attention_weight=0."
            )
        weights = {name: getattr(self, name) for name in BESIDE.values()}
        taught = [f"{name} is {weight:g}" for name, weight in weights.items() if weight]
        latency = self.rehearsal.latency
        if latency is not None and (taught or self.diarization_weight == 0):
            found = " and ".join(taught) or "diarization_weight is 0"
            raise ConfigError(
                f"{found}, but rehearsal.latency is {latency}: a session is heard chunk by chunk, "
                "and diarized. Set that to null, or the weights of what is taught beside to 0."
            )


LARGE = 50_000_000
"""Weights from which on a CPU returns freed memory in the midst of a step: what `keep_freed_memory`
keeps would grow to half of all. Smaller models compute too little on what they hold."""

TIDIED = 6
"""Layers between two returns."""


class ErrorRate(Metric):
    """DER in percent over everything validated, summed over processes before the division."""

    full_state_update = False
    wrong: Tensor
    scored: Tensor

    def __init__(self) -> None:
        super().__init__()
        # Whole microseconds: sums are exact, also on accelerators without float64.
        for part in ("wrong", "scored"):
            self.add_state(part, torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, error: DiarizationError) -> None:
        """Add the error seconds of one session."""
        self.wrong += round((error.miss + error.false_alarm + error.confusion) * 1e6)
        self.scored += round(error.scored * 1e6)

    def compute(self) -> Tensor:
        """Percent; of one second where less was scored."""
        return 100 * self.wrong / self.scored.clamp(min=1_000_000)


class DiarizationModule(pl.LightningModule):
    """A diarizer with its losses, optimizer and validation DER.

    Args:
        config: the whole run.
        voices: training speakers to tell apart; none where voices are not trained.
        diarizer: what is trained, where it was built before; else drawn here.

    Attributes:
        known_slots: slots that the checkpoint had which the run starts from; 0 without one.
        frozen: whether the front end stays as it is.
    """

    def __init__(
        self,
        config: TrainingConfig,
        voices: Sequence[str] = (),
        diarizer: Diarizer | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.diarizer = Diarizer(config.diarizer) if diarizer is None else diarizer
        width = self.diarizer.front_end.embedding_dim
        self.voices = VoiceLoss(width, len(voices), config.voices) if voices else None
        self.masked = None
        if config.masked_weight:
            self.masked = MaskedPrediction(self.diarizer.front_end, config.masked, config.seed)
        self.count = nn.Linear(width, 3) if config.count_weight else None
        self.activity = None
        if config.activity_weight:
            width = self.diarizer.head.width
            self.activity = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 3))
        self.rehearsal = None
        if config.rehearsal.latency is not None:
            self.rehearsal = Rehearsal(self.diarizer, config.rehearsal)
        elif self.diarizer.silence is not None:
            self.diarizer.silence.requires_grad_(False)  # windows are heard without a cache
        encoder = self.diarizer.encoder
        if config.attention_weight and not (hasattr(encoder, "first_scores") and encoder.layers):
            raise ConfigError(
                f"attention_weight is {config.attention_weight:g}, but the encoder has no layer in "
                "which frames attend to one another. Set attention_weight=0."
            )
        taught = config.attention_weight or config.count_weight or voices
        if taught and self.diarizer.config.upsampling > 1:
            raise ConfigError(
                f"attention_weight is {config.attention_weight:g}, count_weight "
                f"{config.count_weight:g} and voice_weight {config.voice_weight:g}, but they need "
                "activity in frames of the front end, and diarizer.upsampling is "
                f"{self.diarizer.config.upsampling}. Set all three to 0."
            )
        self.error_rate, self.mean_loss = ErrorRate(), MeanMetric()
        self._sums: dict[str, Tensor] = {}
        self.known_slots = 0
        self.frozen = config.optimizer.front_end_share == 0
        if not config.diarization_weight:
            for part in (self.diarizer.projection, self.diarizer.encoder, self.diarizer.head):
                part.requires_grad_(False)
        if self.frozen:
            self.diarizer.front_end.requires_grad_(False)
            self.train()
        for layer in self._layers():
            if config.trainer.compile:
                layer.forward = torch.compile(layer.forward)
            if config.trainer.recompute:
                recompute(layer)
        if sum(weight.numel() for weight in self.parameters()) >= LARGE:
            for layer in self._layers()[::TIDIED]:
                layer.register_forward_pre_hook(self._tidy_both_ways)
        self.save_hyperparameters(
            {
                "diarizer_config": to_dict(self.diarizer.config),
                "postprocess": to_dict(config.postprocess),
                "inference": {
                    "window": config.data.trained_window,
                    **(self.rehearsal.inference if self.rehearsal is not None else {}),
                },
                "voices": list(voices),
            }
        )

    def _layers(self) -> list[nn.Module]:
        """Of the front end and of the encoder, where these have layers."""
        return [
            layer
            for part in (self.diarizer.front_end, self.diarizer.encoder)
            for name, layers in part.named_modules()
            if name.split(".")[-1] == "layers" and isinstance(layers, nn.ModuleList)
            for layer in layers
        ]

    def configure_model(self) -> None:
        """Deal out the weights, where devices share them."""
        if isinstance(self.trainer.strategy, Sharding):
            layers = self._layers()
            if self.config.attention_weight:  # part of this layer is asked for by itself
                layers.remove(self.diarizer.encoder.layers[0])
            mesh = self.trainer.strategy.device_mesh["data_parallel"]
            shard(self, layers, mesh, "training_step", "validation_step")

    def recognise(self, known: Mapping[str, Tensor]) -> int:
        """Take over the class weights (D,) of voices that are trained here too; how many."""
        if self.voices is None:
            return 0
        both = [(i, known[v]) for i, v in enumerate(self.hparams["voices"]) if v in known]
        with torch.no_grad():
            for index, weight in both:
                self.voices.weight[index] = weight
        return len(both)

    def train(self, mode: bool = True) -> "DiarizationModule":
        """Train, or not, all but what is frozen: that has no dropout and keeps its statistics."""
        super().train(mode)
        if self.frozen:
            self.diarizer.front_end.eval()
        return self

    def _embed(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the front end hears, and the labels (B, T) of what is masked, where something is.

        Where the front end is frozen, there is no way back for gradients.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            if self.masked is not None and self.training:
                front_end = self.diarizer.front_end
                return self.masked.embed(front_end, batch.signal, batch.num_samples)
            return *self.diarizer.embed(batch.signal, batch.num_samples), None

    def _step(self, batch: Batch) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """Loss, logits (B, T, S) where they are trained, and the parts of the loss."""
        config = self.config
        loss = batch.activity.new_zeros(())
        said: Estimates | None = None
        parts: dict[str, Tensor] = {}
        if self.rehearsal is not None:
            said = self.rehearsal(batch.signal, batch.num_samples)
        else:
            embedding, num_frames, labels = self._embed(batch)
            if self.training:
                parts = self._beside(embedding, num_frames, labels, batch)
                weights = {n: getattr(config, BESIDE[n]) for n in parts if n in BESIDE}
                loss = loss + sum(weight * parts[name] for name, weight in weights.items())
            if config.diarization_weight:
                said = self.diarizer.classify_layers(embedding, num_frames)
        if said is None:
            return loss, None, parts
        length = batch.activity.shape[1]
        logits = said.logits[:, :length]
        value, detail = diarization_loss(logits, batch.activity, batch.num_frames, config.loss)
        parts |= detail
        if said.layers and self.training:
            layers = [layer[:, :length] for layer in said.layers]
            parts["layer_loss"] = layer_loss(layers, batch.activity, batch.num_frames, config.loss)
            value = value + parts["layer_loss"]
        if self.activity is not None and self.training:
            counted = self.activity(said.hidden[:, :length])
            parts["activity_loss"] = count_loss(counted, batch.activity, batch.num_frames)
            value = value + config.activity_weight * parts["activity_loss"]
        return loss + config.diarization_weight * value, logits, parts

    def _beside(
        self, embedding: Tensor, num_frames: Tensor, labels: Tensor | None, batch: Batch
    ) -> dict[str, Tensor]:
        """Losses of what the front end and the first layer are taught beside, and how well."""
        parts = {}
        if self.voices is not None:
            parts["voice_loss"] = self.voices(embedding, batch.voice, self.global_step)
        if self.masked is not None and labels is not None:
            predicted = self.masked(embedding, labels)
            parts["masked_loss"] = predicted.loss
            parts["masked_accuracy"] = predicted.accuracy
            parts["label_perplexity"] = predicted.perplexity
        if self.count is not None:
            parts["count_loss"] = count_loss(self.count(embedding), batch.activity, num_frames)
        if self.config.attention_weight:
            scores = self.diarizer.encoder.first_scores(self.diarizer.projection(embedding))
            taught = scores[:, : max(scores.shape[1] // 2, 1)]
            parts["attention_loss"] = attention_loss(taught, batch.activity, num_frames)
        return parts

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Loss of one batch; the means over all batches of a step go to the log."""
        loss, _, parts = self._step(batch)
        values = {"train_loss": loss} | {f"train_{name}": value for name, value in parts.items()}
        self.log_dict(self._means(values, batch_index), batch_size=len(batch.turns))
        return loss

    def _tidy_both_ways(self, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        """Return what lies free before a layer, and again when its gradients have passed."""

        def tidy(_: Tensor) -> None:
            return_freed_memory()

        if self.device.type == "cpu" and inputs[0].requires_grad:
            tidy(inputs[0])
            inputs[0].register_hook(tidy)

    def _means(self, values: dict[str, Tensor], batch_index: int) -> dict[str, Tensor]:
        """Means of the batches of a step so far; over all ranks in steps that are logged."""
        settings = self.config.trainer
        number = batch_index % settings.accumulate
        before = self._sums if number else {}
        self._sums = {n: v.detach() + before.get(n, 0.0) for n, v in values.items()}
        told = number + 1 == settings.accumulate and (
            (self.global_step + 1) % min(settings.log_every, settings.max_steps) == 0
        )
        means = torch.stack(list(self._sums.values())) / (number + 1)
        if told and self.trainer.world_size > 1:
            means = cast(Tensor, self.trainer.strategy.reduce(means, reduce_op="mean"))
        return dict(zip(self._sums, means, strict=True))

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """DER of one batch, through the post-processing and the scorer that users run.

        Each session counts once, whichever rank has it.

        Raises:
            DiarizeError: if the weights have grown so far that the answer is no number.
        """
        loss, logits, _ = self._step(batch)
        if logits is None:
            return
        if not loss.isfinite():
            raise DiarizeError(
                f"step {self.global_step}: the validation loss is {loss:g}, but a DER needs a "
                "finite one. Lower optimizer.learning_rate."
            )
        counts = cast(DiarizationData, cast(Any, self.trainer).datamodule).counts(batch_index)
        self.mean_loss.update(loss, float(len(batch.turns) if counts else 0))
        self.log("val_loss", self.mean_loss, batch_size=len(batch.turns))
        self.error_rate.update(DiarizationError())
        shift = self.diarizer.grid.frame_shift
        for row, posterior in enumerate(logits.sigmoid().float().cpu().numpy() if counts else ()):
            frames = int(batch.num_frames[row])
            hypothesis = to_turns(posterior[:frames], shift, self.config.postprocess)
            error = score(batch.turns[row], hypothesis, uem=batch.regions[row])
            self.error_rate.update(error)
        self.log("val_der", self.error_rate, batch_size=len(batch.turns))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """The optimizer, and its rate by the step."""
        optimizer, scheduler = make_optimizer(
            self, self.config.optimizer, self.config.trainer.max_steps, self.known_slots
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
