"""What a run learns from and is validated on, as Lightning's loaders."""

import math
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from diarize.config import check_least, check_ramp, check_shares, risen
from diarize.data import (
    Batch,
    BatchOrder,
    BatchSizes,
    Collate,
    Draw,
    DrawConfig,
    Lane,
    SessionDataset,
    SharedBatches,
    Simulated,
    Source,
    StreamSampler,
    WindowPool,
    is_sharded,
    open_sessions,
    open_shards,
)
from diarize.errors import ConfigError, DiarizeError
from diarize.manifest import read_manifest
from diarize.model import Diarizer
from diarize.recording import AUDIO, Kind
from diarize.simulate import SimulationConfig, Simulator


@dataclass
class DataConfig:
    """What a run learns from."""

    utterances: str | None = None
    """Manifest of single-speaker utterances to simulate sessions from."""
    noise: str | None = None
    """Manifest of background noises for the simulation."""
    rir: str | None = None
    """Manifest of room responses for the simulation."""
    sessions: Any = None
    """Manifest of recorded sessions with references, or a folder or index of shards; or several,
    each with its weight, as in ``{ami.jsonl: 2, calls.jsonl: 1}``."""
    recorded_share: float = 0.5
    """Share of batches that are recorded, where simulated ones are too."""
    recorded_ramp: list[int] = field(default_factory=lambda: [0, 0])
    """Steps until which no batch is recorded, and from which on ``recorded_share`` of them are;
    the share rises evenly in between."""
    window: float = 30.0
    """Seconds of a recorded training window."""
    draw: DrawConfig = field(default_factory=DrawConfig)
    """Which windows of recorded sessions are drawn."""
    cache: bool = False
    """Whether recordings of ``sessions`` are decoded once, into ``~/.cache/diarize``, where an hour
    takes 115 MB and windows are read several times as fast as from compressed audio."""
    validation: str | None = None
    """Manifest of sessions with references, whose DER chooses the best checkpoint; not used
    where diarization_weight is 0."""
    validation_window: float | None = None
    """Seconds of a validation window; null validates whole sessions, each in one pass, however
    long: unlike in inference, nothing is stitched, and cost grows with the square of the length."""
    batch_size: int = 8
    """Sessions of a batch, on each device."""
    batch_seconds: float | None = None
    """Seconds of a batch of recorded windows at most, the padding counted, in place of
    ``batch_size``: windows of like length are batched together, many short or few long ones."""
    quadratic_seconds: float | None = None
    """With ``batch_seconds``, a window of d seconds counts as d + d * d / quadratic_seconds, as
    attention costs; null: as d."""
    buckets: int = 16
    """With ``batch_seconds``, groups of like length, each with a batch at least: more of them pad
    less, and mix fewer lengths in a batch."""
    soft_targets: bool = False
    """Learn how much of a frame each speaker talks, 0 to 1, instead of whether in its middle."""
    num_workers: int = 2
    """Processes that prepare batches; 0 prepares them in the training process."""
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    """How simulated sessions go and sound."""

    def __post_init__(self) -> None:
        check_least(self, window=0.1, validation_window=0.1, batch_size=1, num_workers=0)
        check_least(self, batch_seconds=0.1, quadratic_seconds=0.1, buckets=1)
        check_shares(self, "recorded_share")
        check_ramp("recorded_ramp", self.recorded_ramp)
        longest = self.sizes.cost(self.window)
        if self.batch_seconds is not None and self.batch_seconds < longest:
            raise ConfigError(
                f"batch_seconds is {self.batch_seconds:g}, but a window of {self.window:g} s "
                f"counts as {longest:g} s. Raise batch_seconds, or lower window."
            )
        if (self.draw.shortest or 0.0) > self.window:
            raise ConfigError(
                f"draw.shortest is {self.draw.shortest:g}, but window is {self.window:g}. Lower "
                "draw.shortest, or set it to null."
            )
        if self.draw.splices and 2 * self.draw.splice_shortest > self.window:
            raise ConfigError(
                f"draw.splice_shortest is {self.draw.splice_shortest:g}, but window is "
                f"{self.window:g}, which two stretches fill. Lower draw.splice_shortest."
            )
        _ = self.manifests

    @property
    def manifests(self) -> dict[str, float]:
        """Manifests of recorded sessions, and what each weighs."""
        if self.sessions is None:
            return {}
        given = {self.sessions: 1.0} if isinstance(self.sessions, str) else self.sessions
        for name, weight in given.items() if isinstance(given, dict) else [("", 0)]:
            weighs = isinstance(weight, int | float) and 0 < weight < math.inf
            if not (name and isinstance(name, str) and weighs):
                raise ConfigError(
                    f"sessions is {self.sessions!r}, but it names a manifest, or several with "
                    "weights above 0. Write a.jsonl, or {a.jsonl: 2, b.jsonl: 1}."
                )
        return {name: float(weight) for name, weight in given.items()}

    @property
    def sizes(self) -> BatchSizes:
        """How many recorded windows make a batch."""
        return BatchSizes(self.batch_size, self.batch_seconds, self.quadratic_seconds, self.buckets)

    def recorded_share_at(self, step: NDArray[np.int64]) -> NDArray[np.float64]:
        """(step,) share of recorded batches at each step."""
        return self.recorded_share * risen(self.recorded_ramp, step)

    @property
    def trained_window(self) -> float:
        """Seconds that a model sees at once in training, and had best infer with."""
        simulated = self.simulation.duration
        return simulated if not self.manifests and simulated is not None else self.window


class DiarizationData(pl.LightningDataModule):
    """The run's loaders: simulated and recorded sessions, and those it is validated on.

    Args:
        config: what it learns from.
        seed: of the sessions that are simulated and the windows that are drawn.
        num_steps: batches of the whole run, for each process.
        tell_voices: whether batches say which training speaker talks.
        diarizer: what learns; where it is given, sessions are seen to fit it.

    Attributes:
        voices: training speaker to class index; empty where voices are not told.

    Raises:
        ConfigError: if there is nothing to learn from, or nothing that the model hears.
        ManifestError: for a manifest that cannot be used.
    """

    def __init__(
        self,
        config: DataConfig,
        seed: int,
        num_steps: int,
        tell_voices: bool = False,
        diarizer: Diarizer | None = None,
    ) -> None:
        super().__init__()
        self.config, self.num_steps = config, num_steps
        self.voices: dict[str, int] = {}
        if config.utterances is None and not config.manifests:
            raise ConfigError(
                "data.utterances and data.sessions are both null, but training needs one. "
                "Give data.utterances=MANIFEST (simulation) or data.sessions=MANIFEST."
            )
        if diarizer is not None and diarizer.hears != AUDIO:
            _refuse_simulation(config, diarizer.hears, tell_voices)
        self._sources: list[Source] = []
        self._on_device: dict[int, Simulated] = {}
        self._lanes: list[Lane] = []
        if config.utterances is not None:
            simulator = Simulator.from_manifests(
                config.simulation, config.utterances, config.noise, config.rir, seed
            )
            self._sources.append(Simulated(simulator))
            self._lanes.append(Lane(0, 0, config.batch_size, 1.0))
            if tell_voices:
                self.voices = {name: index for index, name in enumerate(simulator.voices)}
        elif tell_voices:
            raise ConfigError(
                "voice_weight is above 0, but data.utterances is null: only simulated sessions "
                "say whose voice is heard. Give the manifest, or set voice_weight=0."
            )
        for number, (manifest, weight) in enumerate(config.manifests.items()):
            self._add_recorded(manifest, weight, [seed, 2, number], diarizer)
        self._order = BatchOrder(self._lanes, seed, self._recorded_share)
        self._validation = (
            SessionDataset(read_manifest(config.validation), config.validation_window)
            if config.validation is not None
            else None
        )
        if self._validation is not None and diarizer is not None:
            self._validation.check(diarizer.hears, diarizer.num_slots)

    def _add_recorded(
        self, manifest: str, weight: float, seed: list[int], diarizer: Diarizer | None
    ) -> None:
        config = self.config
        if is_sharded(manifest):
            sessions = open_shards(manifest)
        else:
            sessions = open_sessions(read_manifest(manifest), config.cache)
        num_slots = None if diarizer is None else diarizer.num_slots
        pool = WindowPool(sessions, config.window, config.draw, seed, num_slots, config.sizes)
        if diarizer is not None:
            pool.check(diarizer.hears, diarizer.num_slots)
        total = sum(bucket.num_batches for bucket in pool.buckets)
        for number, bucket in enumerate(pool.buckets):
            share = weight * bucket.num_batches / total
            lane = Lane(len(self._sources), number, bucket.batch_size, share, recorded=True)
            self._lanes.append(lane)
        self._sources.append(pool)

    def _recorded_share(self, batch: NDArray[np.int64]) -> NDArray[np.float64]:
        many = cast(pl.Trainer, self.trainer).accumulate_grad_batches
        return self.config.recorded_share_at(batch // many)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches from the step at which the trainer stands."""
        trainer = cast(pl.Trainer, self.trainer)
        many = trainer.accumulate_grad_batches
        sampler = StreamSampler(
            self._order,
            self.num_steps,
            lambda: trainer.global_step * many,
            trainer.global_rank,
            trainer.world_size,
        )
        device = trainer.strategy.root_device
        # Soft targets are made of turns, session by session.
        there = device.type == "cuda" and not self.config.soft_targets
        self._on_device = {
            number: source.on(device)
            for number, source in enumerate(self._sources)
            if isinstance(source, Simulated) and there and source.fits(device)
        }
        elsewhere = {n: s for n, s in enumerate(self._sources) if n not in self._on_device}
        drawn = _Drawn(elsewhere, self._collate())
        # Draws alone need no process of their own.
        workers = self.config.num_workers if elsewhere else 0
        return self._loader(cast(Dataset[Batch], drawn), workers, batch_sampler=cast(Any, sampler))

    def val_dataloader(self) -> DataLoader[Batch] | list[Any]:
        """This process's share of the validation sessions; nothing where there are none."""
        if self._validation is None:
            return []
        trainer = cast(pl.Trainer, self.trainer)
        self._shared = SharedBatches(
            len(self._validation),
            self.config.batch_size,
            trainer.global_rank,
            trainer.world_size,
        )
        listed = _Listed(self._validation, self._collate())
        workers = self.config.num_workers
        return self._loader(cast(Dataset[Batch], listed), workers, batch_sampler=self._shared)

    def counts(self, batch_index: int) -> bool:
        """Whether a batch of validation counts; not where it only keeps step with other ranks."""
        return self._shared.is_first(batch_index)

    def on_before_batch_transfer(
        self, batch: Batch | Draw | DiarizeError, dataloader_idx: int
    ) -> Batch:
        """Raise what a worker met in place of a batch; make what is made where it is needed."""
        if isinstance(batch, DiarizeError):
            raise batch
        if isinstance(batch, Draw):
            return self._on_device[batch.source].batch(batch, self._collate())
        return batch

    def _collate(self) -> Collate:
        diarizer = cast(Diarizer, cast(pl.Trainer, self.trainer).lightning_module.diarizer)
        voices, soft = self.voices or None, self.config.soft_targets
        return Collate(diarizer.grid, diarizer.num_slots, voices, diarizer.hears, soft)

    def _loader(self, batches: Dataset[Batch], workers: int, **batching: Any) -> DataLoader[Batch]:
        return DataLoader(
            batches,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=workers > 0,
            worker_init_fn=_serve,
            **batching,
        )


def _refuse_simulation(config: DataConfig, hears: Kind, tell_voices: bool) -> None:
    """See that a run on features asks for nothing that simulated audio alone has."""
    asked = [("data.utterances", config.utterances)]
    asked += [("data.noise", config.noise), ("data.rir", config.rir)]
    for name, value in asked:
        if value is not None:
            raise ConfigError(
                f"{name} is {value}, but the model hears {hears}, and what is simulated is audio. "
                "Leave it out, and give data.sessions=MANIFEST."
            )
    if tell_voices:
        raise ConfigError(
            f"voice_weight is above 0, but the model hears {hears}, and only simulated audio says "
            "whose voice is heard. Set voice_weight=0."
        )


class _Drawn(Dataset[Batch | Draw | DiarizeError]):
    """Batches of the run's sources, as a sampler draws them.

    Of sources that are not there, which make their batches on a device, the draws.
    """

    def __init__(self, sources: Mapping[int, Source], collate: Collate) -> None:
        self._sources, self._collate = sources, collate

    def __getitems__(self, draw: Draw) -> Batch | Draw | DiarizeError:
        if draw.source not in self._sources:
            return draw
        return _told(lambda: self._sources[draw.source].batch(draw, self._collate))


class _Listed(Dataset[Batch | DiarizeError]):
    """Batches of sessions in their order."""

    def __init__(self, sessions: SessionDataset, collate: Collate) -> None:
        self._sessions, self._collate = sessions, collate

    def __len__(self) -> int:
        return len(self._sessions)

    def __getitems__(self, indices: list[int]) -> Batch | DiarizeError:
        return _told(lambda: self._collate([self._sessions[index] for index in indices]))


def _told(batch: Callable[[], Batch]) -> Batch | DiarizeError:
    """A batch; a mistake of the user's is handed on in its place.

    Raised in a worker, it would reach the user inside torch's report of a traceback.
    """
    try:
        return batch()
    except DiarizeError as error:
        return error


def _as_it_is(batch: Any) -> Any:
    return batch


def _serve(worker: int) -> None:
    """Workers share the processors with the training; each takes one thread.

    And they share its group: SIGTERM comes to all, and the run, which then saves, needs them still.
    """
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
