"""The diarizer: a front end, an encoder, and a head with one logit per slot and frame.

B batch, N samples, T frames, D embedding width, S slots.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from diarize.config import check_least, check_shares, instantiate, to_dict
from diarize.dropout import Dropout
from diarize.encoder.sortformer import by_arrival
from diarize.errors import ConfigError
from diarize.frames import FrameGrid
from diarize.recording import AUDIO, Kind
from diarize.turns import Turn


def _front_end() -> dict[str, Any]:
    return {"_target_": "diarize.frontend.fastconformer.FastConformer"}


def _encoder() -> dict[str, Any]:
    return {"_target_": "diarize.encoder.transformer.Transformer"}


@dataclass
class DiarizerConfig:
    """Settings of `Diarizer`; the defaults are the published offline model's.

    One is not: ``mel.peak_scaling``, which a model needs that was trained with it.
    """

    front_end: dict[str, Any] = field(default_factory=_front_end)
    """Class (``_target_``) and settings of the front end."""
    encoder: dict[str, Any] = field(default_factory=_encoder)
    """Class (``_target_``) and settings of the encoder."""
    num_slots: int = 4
    """Speakers a window can hold."""
    head_width: int | None = None
    """Width of the head; null is the encoder's."""
    upsampling: int = 1
    """Logits for each frame of the front end."""
    head_dropout: float = 0.5
    """Before each linear map of the head."""
    sort_output: bool = False
    """Put slots in the order in which they are first above 0.5; for models trained without the sort
    loss, whose slots come in any order."""
    learned_silence: bool = False
    """Whether what a stream remembers as silence is a parameter, not the mean of what it heard."""

    def __post_init__(self) -> None:
        check_shares(self, "head_dropout")
        check_least(self, upsampling=1)


class Estimates(NamedTuple):
    """What a network says of all frames.

    Attributes:
        logits: (B, T * upsampling, S), before the sigmoid.
        layers: as much of each layer of the encoder that estimates speakers, slots not sorted.
        hidden: (B, T * upsampling, head width), what the head answers from.
    """

    logits: Tensor
    layers: list[Tensor]
    hidden: Tensor


class Diarizer(nn.Module):
    """Who speaks when, for windows of audio; on a path, for the whole recording.

    Attributes:
        config: settings this model was built from, with every default written out, so that a
            checkpoint outlives a change of defaults.
        postprocess: thresholds it was tuned with, as keys of `PostprocessConfig`.
        inference: how it is best run, as keys of `InferenceConfig`.
    """

    def __init__(
        self,
        config: DiarizerConfig,
        front_end: nn.Module | None = None,
        encoder: nn.Module | None = None,
    ) -> None:
        """Build from settings, or around a front end or an encoder made elsewhere.

        Args:
            config: settings.
            front_end: used instead of ``config.front_end``; has ``grid``, ``embedding_dim`` and
                maps (waveform, num_samples) to (embedding, num_frames); and ``hears``, if that is
                not audio.
            encoder: used instead of ``config.encoder``; has ``width`` and maps
                (embedding, num_frames) to an embedding, in a stream with the slice of frames that
                are asked for as a third, and, where training limits what frames attend to, that as
                ``visible``; one that estimates speakers on the way has ``estimate`` as well, which
                also returns the logits of its layers.
        """
        super().__init__()
        if config.num_slots < 1:
            raise ConfigError(
                f"num_slots: is {config.num_slots}, but a window holds at least 1 speaker. "
                "Raise it."
            )
        self.postprocess: dict[str, Any] = {}
        self.inference: dict[str, Any] = {}
        self.front_end = cast(Any, front_end or instantiate(config.front_end))
        self.encoder = cast(Any, encoder or instantiate(config.encoder, num_slots=config.num_slots))
        self.config = replace(
            config,
            front_end=config.front_end
            if front_end
            else _resolved(config.front_end, self.front_end),
            encoder=config.encoder if encoder else _resolved(config.encoder, self.encoder),
        )
        inputs, width = self.front_end.embedding_dim, self.encoder.width
        self.projection = nn.Identity() if inputs == width else nn.Linear(inputs, width)
        self.head = Head(width, config)
        self.silence = nn.Parameter(torch.zeros(inputs)) if config.learned_silence else None
        hop, step = self.front_end.grid.hop, self.front_end.grid.step
        if hop // step % config.upsampling:
            raise ConfigError(
                f"upsampling: is {config.upsampling}, but a frame of the front end is "
                f"{hop // step} steps of {step} samples. Give a divisor of {hop // step}."
            )

    @property
    def grid(self) -> FrameGrid:
        """The clock of logits and posteriors."""
        grid: FrameGrid = self.front_end.grid
        return replace(grid, hop=grid.hop // self.config.upsampling)

    @property
    def hears(self) -> Kind:
        """Audio, or features of some width and frame shift."""
        kind: Kind = getattr(self.front_end, "hears", AUDIO)
        return kind

    @property
    def num_slots(self) -> int:
        """Speakers a window can hold."""
        return self.config.num_slots

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`diarize_file` when given a path, `forward` when given tensors."""
        if args and isinstance(args[0], (str, Path)):
            return self.diarize_file(*args, **kwargs)
        return super().__call__(*args, **kwargs)

    def forward(self, waveform: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of a batch of windows.

        Args:
            waveform: (B, N), -1 to 1, at ``grid.sample_rate``; or (B, T, F), features.
            num_samples: (B,), samples before padding; ``grid.hop`` for a row of features.

        Returns:
            Logits (B, T, S), without meaning beyond an item's frames, and the numbers of frames
            before padding, (B,).
        """
        logits = self.classify(*self.embed(waveform, num_samples))
        steps, joined = num_samples // self.grid.step, self.grid.hop // self.grid.step
        return logits, -(-steps // joined)

    def embed(self, waveform: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """What the front end alone hears: embeddings (B, T, D) and numbers of frames (B,)."""
        embedding: tuple[Tensor, Tensor] = self.front_end(waveform, num_samples)
        return embedding

    def classify(
        self, embedding: Tensor, num_frames: Tensor, wanted: range | None = None
    ) -> Tensor:
        """Logits of front-end embeddings.

        Args:
            embedding: (B, T, D).
            num_frames: (B,), frames before padding.
            wanted: frames whose logits are asked for; default: all.

        Returns:
            (B, T * upsampling, S), or ``len(wanted)`` in place of T.
        """
        if wanted is None:
            return self.classify_layers(embedding, num_frames).logits
        first, last, finer = wanted.start, wanted.stop, self.config.upsampling
        if self.config.sort_output:  # the order needs all frames
            logits = self.classify_layers(embedding, num_frames).logits
            return logits[:, first * finer : last * finer]
        heard = max(first - 1, 0)  # upsampling hears a neighbour on either side
        projected = self.projection(embedding)
        encoded = self.encoder(projected, num_frames, slice(heard, last + 1))
        logits = self.head(encoded, num_frames - heard)
        return logits[:, (first - heard) * finer : (last - heard) * finer]

    def classify_layers(
        self, embedding: Tensor, num_frames: Tensor, visible: Tensor | None = None
    ) -> Estimates:
        """Logits of all frames, and what they come from.

        Args:
            embedding: (B, T, D), of the front end.
            num_frames: (B,), frames before padding.
            visible: (B or 1, T, T), whether the frame of a row may attend to that of a column;
                default: to all.
        """
        projected, finer = self.projection(embedding), self.config.upsampling
        limits = {} if visible is None else {"visible": visible}
        layers: list[Tensor] = []
        if hasattr(self.encoder, "estimate"):
            encoded, layers = self.encoder.estimate(projected, num_frames, **limits)
        else:
            encoded = self.encoder(projected, num_frames, **limits)
        hidden = self.head.refine(encoded, num_frames)
        logits = self.head.answer(hidden)
        if self.config.sort_output:
            causal = getattr(getattr(self.encoder, "config", None), "causal", False)
            logits = by_arrival(logits, num_frames * finer, causal)
        return Estimates(
            logits, [layer.repeat_interleave(finer, dim=1) for layer in layers], hidden
        )

    @torch.no_grad()
    def posterior(self, waveform: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities (B, T, S), zero beyond an item's frames, and numbers of frames (B,)."""
        logits, num_frames = self(waveform, num_samples)
        frames = torch.arange(logits.shape[1], device=logits.device)
        valid = (frames < num_frames[:, None]).unsqueeze(-1)
        return torch.where(valid, logits.float().sigmoid(), 0.0), num_frames

    @torch.inference_mode()
    def judge(
        self, signal: NDArray[np.float32], num_samples: NDArray[np.int64]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Posteriors and embeddings of a batch of windows, as inference asks for them.

        Args:
            signal: (B, N), or (B, T, F), see `forward`.
            num_samples: (B,), samples before padding.

        Returns:
            (B, T * upsampling, S) and (B, T, D), without meaning beyond an item's frames.

        Raises:
            ConfigError: if the device has not enough memory.
        """
        device, training = next(self.parameters()).device, self.training
        self.eval()
        seconds = num_samples.max() / self.grid.sample_rate
        try:
            with enough_memory(device, f"{len(signal)} windows of {seconds:.0f} s"):
                inputs = torch.from_numpy(signal).to(device)
                counts = torch.from_numpy(num_samples).to(device)
                embedding, num_frames = self.embed(inputs, counts)
                posterior = self.classify(embedding, num_frames).float().sigmoid()
        finally:
            self.train(training)
        return posterior.cpu().numpy(), embedding.float().cpu().numpy()

    def diarize_file(self, path: str | Path) -> list[Turn]:
        """Turns of a recording of any length, in order.

        Raises:
            AudioError: if the recording cannot be read.
        """
        # Inference stands one level above; a model that one can call on a file is worth it.
        from diarize.inference import diarize_file

        return diarize_file(self, path)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path = "default") -> "Diarizer":
        """A trained model, ready to infer.

        Args:
            name_or_path: a packaged model's name, a checkpoint of any kind, an experiment
                folder, or ``owner/name`` on Hugging Face; see `load_checkpoint`.

        Raises:
            CheckpointError: if there is no such model, or it does not fit.
        """
        from diarize.checkpoint import load_checkpoint

        return load_checkpoint(name_or_path)


@contextmanager
def enough_memory(device: torch.device, what: str) -> Iterator[None]:
    """Tell a want of memory in one line.

    Args:
        device: whose memory it is.
        what: what goes through the network at once.

    Raises:
        ConfigError: if there is not enough.
    """
    try:
        yield
    except RuntimeError as error:  # which torch.OutOfMemoryError is, of accelerators alone
        missing = isinstance(error, torch.OutOfMemoryError)
        if not missing and "can't allocate memory" not in str(error):
            raise
        raise ConfigError(
            f"{device}: has no memory for {what} at once. Lower the batch size or the window."
        ) from None


def _resolved(node: dict[str, Any], component: Any) -> dict[str, Any]:
    """A component's node with every setting written out."""
    return {"_target_": node["_target_"], **to_dict(component.config)}


class Head(nn.Module):
    """Two linear maps, each after a ReLU and dropout; before them, if asked for, a finer clock."""

    def __init__(self, inputs: int, config: DiarizerConfig) -> None:
        super().__init__()
        width = config.head_width or inputs
        self.projection = nn.Identity() if width == inputs else nn.Linear(inputs, width)
        self.upsampling = (
            nn.Identity() if config.upsampling == 1 else Upsampling(width, config.upsampling)
        )
        self.hidden = nn.Linear(width, width)
        self.output = nn.Linear(width, config.num_slots)
        self.dropout = Dropout(config.head_dropout)

    def forward(self, embedding: Tensor, num_frames: Tensor) -> Tensor:
        """(B, T, D) to logits (B, T * upsampling, S); ``num_frames`` (B,) before padding."""
        return self.answer(self.refine(embedding, num_frames))

    @property
    def width(self) -> int:
        """Width of what is answered from."""
        return self.hidden.in_features

    def refine(self, embedding: Tensor, num_frames: Tensor) -> Tensor:
        """What is answered from: (B, T, D) to (B, T * upsampling, W)."""
        hidden: Tensor = self.projection(embedding)
        if isinstance(self.upsampling, Upsampling):
            hidden = self.upsampling(hidden, num_frames)
        return hidden

    def answer(self, hidden: Tensor) -> Tensor:
        """Logits (B, T, S) of refined frames (B, T, W)."""
        hidden = self.hidden(self.dropout(functional.relu(hidden)))
        logits: Tensor = self.output(self.dropout(functional.relu(hidden)))
        return logits

    @torch.no_grad()
    def rescale(self, temperature: float, bias: float) -> None:
        """Make ``logits / temperature + bias`` of all logits, for good."""
        self.output.weight.div_(temperature)
        self.output.bias.div_(temperature).add_(bias)


class Upsampling(nn.Module):
    """Several finer frames of each, from itself and its neighbours (Shi et al., arXiv:1609.05158).

    Begins as repetition.
    """

    def __init__(self, width: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.convolution = nn.Conv1d(width, factor * width, 3, padding=1)
        repetition = torch.zeros_like(self.convolution.weight)
        repetition[:, :, 1] = torch.eye(width).repeat(factor, 1)
        self.convolution.load_state_dict(
            {"weight": repetition, "bias": torch.zeros(factor * width)}
        )

    def forward(self, hidden: Tensor, num_frames: Tensor) -> Tensor:
        """(B, T, W) to (B, T * factor, W); padding is silent, so that it changes nothing."""
        valid = torch.arange(hidden.shape[1], device=hidden.device) < num_frames[:, None]
        hidden = torch.where(valid.unsqueeze(-1), hidden, 0.0)
        finer = self.convolution(hidden.transpose(1, 2)).transpose(1, 2)  # (B, T, factor * W)
        return finer.unflatten(2, (self.factor, -1)).flatten(1, 2)
