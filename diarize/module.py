"""What is trained: the settings of a run, and a thin Lightning module with losses and optimizer."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics import Metric

from diarize.config import check_choice, check_least, to_dict
from diarize.data import Batch
from diarize.errors import ConfigError, DiarizeError
from diarize.loaders import DataConfig
from diarize.losses import LossConfig, attention_loss, count_loss, diarization_loss, layer_loss
from diarize.model import Diarizer, DiarizerConfig, Estimates
from diarize.muon import Muon
from diarize.postprocess import PostprocessConfig, to_turns
from diarize.rehearsal import Rehearsal, RehearsalConfig
from diarize.score import DiarizationError, score
from diarize.voices import VoiceLoss

ALGORITHMS = ("adamw", "muon")
SCHEDULES = ("cosine", "inverse_sqrt")
BESIDE = {
    "voice_loss": "voice_weight",
    "count_loss": "count_weight",
    "attention_loss": "attention_weight",
}
"""What may be taught beside diarization, and the setting that says how much it counts."""
PRECISIONS = ("auto", "32-true", "bf16-mixed", "16-mixed")


@dataclass
class OptimizerConfig:
    """AdamW or Muon, and the learning rate over the steps."""

    algorithm: str = "adamw"
    """``adamw``, or ``muon`` for the matrices of hidden layers, which learn in fewer steps."""
    learning_rate: float = 1e-3
    """Peak, reached at the end of the warm-up."""
    front_end_share: float = 1.0
    """Share of it for the front end and the voices, where they begin ahead of the encoder."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.98])
    """Decay rates of AdamW's moments."""
    weight_decay: float = 1e-3
    """Decoupled decay of matrices; biases, norms and other vectors have none."""
    warmup_steps: int = 500
    """Steps of linear rise."""
    schedule: str = "cosine"
    """"cosine" falls to a hundredth at the last step, "inverse_sqrt" with the root of the step."""

    def __post_init__(self) -> None:
        check_least(self, learning_rate=0, front_end_share=0, weight_decay=0, warmup_steps=0)
        check_choice("algorithm", self.algorithm, ALGORITHMS)
        check_choice("schedule", self.schedule, SCHEDULES)
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(
                f"betas is {list(self.betas)}, but AdamW has 2, each from 0 to below 1. "
                "Write [0.9, 0.98]."
            )


@dataclass
class TrainerConfig:
    """How long, how often, on what."""

    max_steps: int = 1000
    """Optimizer steps of the whole run."""
    validate_every: int = 200
    """Steps between validations; the last step is always validated."""
    checkpoint_every: int = 100
    """Steps between writings of last.ckpt; the last step is always written."""
    log_every: int = 20
    """Steps between log lines."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient; 0 leaves it as it is."""
    precision: str = "auto"
    """32-true, bf16-mixed or 16-mixed; "auto" is bf16-mixed where the GPU has it, else 32-true."""
    devices: int = 1
    """Devices, or processes, on each node."""
    num_nodes: int = 1
    """Machines."""

    def __post_init__(self) -> None:
        check_least(self, max_steps=1, validate_every=1, checkpoint_every=1, log_every=1)
        check_least(self, gradient_clip=0, devices=1, num_nodes=1)
        check_choice("precision", self.precision, PRECISIONS)


@dataclass
class TrainingConfig:
    """A whole run, as exp/NAME/config.yaml keeps it."""

    seed: int = 0
    """Of weights, sessions and dropout."""
    init: str | None = None
    """Checkpoint whose front end, and all else that fits, the run starts from."""
    voice_weight: float = 0.0
    """Weight of telling the training speakers apart (front end alone)."""
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
    loss: LossConfig = field(default_factory=LossConfig)
    """Sort loss and permutation-invariant loss, blended."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """AdamW or Muon, and the schedule."""
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    """How long, how often, on what."""
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)
    """From posteriors to turns, in validation and in the checkpoint."""

    def __post_init__(self) -> None:
        check_least(self, seed=0, voice_weight=0, diarization_weight=0)
        check_least(self, attention_weight=0, count_weight=0, activity_weight=0)
        if self.voice_weight == 0 and self.diarization_weight == 0:
            raise ConfigError(
                "voice_weight is 0 and diarization_weight is 0, but a run learns at least one. "
                "Raise one."
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
        self.voices = VoiceLoss(width, len(voices)) if voices else None
        self.count = torch.nn.Linear(width, 3) if config.count_weight else None
        self.activity = None
        if config.activity_weight:
            width = self.diarizer.head.width
            self.activity = torch.nn.Sequential(
                torch.nn.LayerNorm(width), torch.nn.Linear(width, 3)
            )
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
        self.error_rate = ErrorRate()
        if not config.diarization_weight:
            for part in (self.diarizer.projection, self.diarizer.encoder, self.diarizer.head):
                part.requires_grad_(False)
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

    def recognise(self, known: Mapping[str, Tensor]) -> int:
        """Take over the class weights (D,) of voices that are trained here too; how many."""
        if self.voices is None:
            return 0
        both = [(i, known[v]) for i, v in enumerate(self.hparams["voices"]) if v in known]
        with torch.no_grad():
            for index, weight in both:
                self.voices.weight[index] = weight
        return len(both)

    def _step(self, batch: Batch) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """Loss, logits (B, T, S) where they are trained, and the parts of the loss."""
        config = self.config
        loss = batch.activity.new_zeros(())
        said: Estimates | None = None
        parts: dict[str, Tensor] = {}
        if self.rehearsal is not None:
            said = self.rehearsal(batch.signal, batch.num_samples)
        else:
            embedding, num_frames = self.diarizer.embed(batch.signal, batch.num_samples)
            if self.training:
                parts = self._beside(embedding, num_frames, batch)
                loss = loss + sum(getattr(config, BESIDE[name]) * parts[name] for name in parts)
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

    def _beside(self, embedding: Tensor, num_frames: Tensor, batch: Batch) -> dict[str, Tensor]:
        """Losses of what the front end and the first layer are taught beside."""
        parts = {}
        if self.voices is not None:
            parts["voice_loss"] = self.voices(embedding, batch.voice)
        if self.count is not None:
            parts["count_loss"] = count_loss(self.count(embedding), batch.activity, num_frames)
        if self.config.attention_weight:
            scores = self.diarizer.encoder.first_scores(self.diarizer.projection(embedding))
            taught = scores[:, : max(scores.shape[1] // 2, 1)]
            parts["attention_loss"] = attention_loss(taught, batch.activity, num_frames)
        return parts

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Loss of one batch; its parts go to the log."""
        loss, _, parts = self._step(batch)
        values = {f"train_{name}": value.detach() for name, value in parts.items()}
        self.log_dict({"train_loss": loss.detach(), **values}, batch_size=len(batch.turns))
        return loss

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """DER of one batch, through the post-processing and the scorer that users run.

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
        self.log("val_loss", loss, batch_size=len(batch.turns), sync_dist=True)
        shift = self.diarizer.grid.frame_shift
        for row, posterior in enumerate(logits.sigmoid().float().cpu().numpy()):
            frames = int(batch.num_frames[row])
            hypothesis = to_turns(posterior[:frames], shift, self.config.postprocess)
            error = score(batch.turns[row], hypothesis, uem=batch.regions[row])
            self.error_rate.update(error)
        self.log("val_der", self.error_rate, batch_size=len(batch.turns))

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW or Muon; matrices decay, vectors do not; the rate follows the schedule per step."""
        config, steps = self.config.optimizer, self.config.trainer.max_steps
        begun = ("diarizer.front_end.", "voices.")
        hidden = self._hidden_matrices() if config.algorithm == "muon" else set()
        groups: dict[tuple[bool, bool, bool], list[Tensor]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                kind = name.startswith(begun), parameter.ndim > 1, name in hidden
                groups.setdefault(kind, []).append(parameter)
        described: list[dict[str, Any]] = [
            {
                "params": parameters,
                "lr": config.learning_rate * (config.front_end_share if ahead else 1.0),
                "weight_decay": config.weight_decay if matrices else 0.0,
                "orthogonal": orthogonal,
            }
            for (ahead, matrices, orthogonal), parameters in groups.items()
        ]
        optimizer = Muon(described, (config.betas[0], config.betas[1]))
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, config, steps)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _hidden_matrices(self) -> set[str]:
        """Names of the weights of linear maps, but for those whose outputs are answers."""
        answers = ("diarizer.head.output", "diarizer.encoder.heads.", "count", "activity.")
        return {
            f"{name}.weight"
            for name, part in self.named_modules()
            if isinstance(part, torch.nn.Linear) and not name.startswith(answers)
        }


def learning_rate_factor(step: int, config: OptimizerConfig, max_steps: int) -> float:
    """Share of the peak learning rate at a step: linear warm-up, then the schedule."""
    warmup = max(config.warmup_steps, 1)
    if step < warmup:
        return (step + 1) / warmup
    if config.schedule == "inverse_sqrt":
        return math.sqrt(warmup / (step + 1))
    progress = min((step - warmup) / max(max_steps - warmup, 1), 1.0)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))
