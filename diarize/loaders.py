"""What a run learns from and is validated on, as Lightning's loaders."""

import signal
from dataclasses import dataclass, field
from typing import Any, cast

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset

from diarize.config import check_least, check_shares
from diarize.data import (
    Batch,
    Collate,
    Example,
    MixedDataset,
    SessionDataset,
    SharedBatches,
    SimulatedDataset,
    StreamSampler,
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
    sessions: str | None = None
    """Manifest of recorded sessions with references."""
    recorded_share: float = 0.5
    """Share of recorded windows, where both kinds are given."""
    window: float = 30.0
    """Seconds of a recorded training window."""
    validation: str | None = None
    """Manifest of sessions with references, whose DER chooses the best checkpoint; not used
    where diarization_weight is 0."""
    validation_window: float | None = None
    """Seconds of a validation window; null validates whole sessions, each in one pass, however
    long: unlike in inference, nothing is stitched, and cost grows with the square of the length."""
    batch_size: int = 8
    """Sessions per step and device."""
    soft_targets: bool = False
    """Learn how much of a frame each speaker talks, 0 to 1, instead of whether in its middle."""
    num_workers: int = 2
    """Processes that prepare batches; 0 prepares them in the training process."""
    simulation: SimulationConfig = field(default_factory=SimulationConfig)
    """How simulated sessions go and sound."""

    def __post_init__(self) -> None:
        check_least(self, window=0.1, validation_window=0.1, batch_size=1, num_workers=0)
        check_shares(self, "recorded_share")

    @property
    def trained_window(self) -> float:
        """Seconds that a model sees at once in training, and had best infer with."""
        simulated = self.simulation.duration
        return simulated if self.sessions is None and simulated is not None else self.window


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
        if config.utterances is None and config.sessions is None:
            raise ConfigError(
                "data.utterances and data.sessions are both null, but training needs one. "
                "Give data.utterances=MANIFEST (simulation) or data.sessions=MANIFEST."
            )
        if diarizer is not None and diarizer.hears != AUDIO:
            _refuse_simulation(config, diarizer.hears, tell_voices)
        simulated: Dataset[Example] | None = None
        recorded: SessionDataset | None = None
        if config.utterances is not None:
            simulator = Simulator.from_manifests(
                config.simulation, config.utterances, config.noise, config.rir, seed
            )
            simulated = SimulatedDataset(simulator.session)
            if tell_voices:
                self.voices = {name: index for index, name in enumerate(simulator.voices)}
        elif tell_voices:
            raise ConfigError(
                "voice_weight is above 0, but data.utterances is null: only simulated sessions "
                "say whose voice is heard. Give the manifest, or set voice_weight=0."
            )
        if config.sessions is not None:
            recorded = SessionDataset(read_manifest(config.sessions), config.window, seed)
        self._train: Dataset[Example]
        if simulated is not None and recorded is not None:
            self._train = MixedDataset(simulated, recorded, config.recorded_share, seed)
        else:
            self._train = cast(Dataset[Example], simulated if recorded is None else recorded)
        self._validation = (
            SessionDataset(read_manifest(config.validation), config.validation_window)
            if config.validation is not None
            else None
        )
        for sessions in (recorded, self._validation):
            if sessions is not None and diarizer is not None:
                sessions.check(diarizer.hears, diarizer.num_slots)

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches from the step at which the trainer stands."""
        trainer = cast(pl.Trainer, self.trainer)
        sampler = StreamSampler(
            self.config.batch_size,
            self.num_steps,
            lambda: trainer.global_step * trainer.accumulate_grad_batches,
            trainer.global_rank,
            trainer.world_size,
        )
        return self._loader(self._train, batch_sampler=sampler)

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
        return self._loader(self._validation, batch_sampler=self._shared)

    def counts(self, batch_index: int) -> bool:
        """Whether a batch of validation counts; not where it only keeps step with other ranks."""
        return self._shared.is_first(batch_index)

    def on_before_batch_transfer(self, batch: Batch | DiarizeError, dataloader_idx: int) -> Batch:
        """Raise what a worker met in place of a batch."""
        if isinstance(batch, DiarizeError):
            raise batch
        return batch

    def _loader(self, dataset: Dataset[Example], **batching: Any) -> DataLoader[Batch]:
        diarizer = cast(Diarizer, cast(pl.Trainer, self.trainer).lightning_module.diarizer)
        soft = self.config.soft_targets
        voices = self.voices or None
        collate = Collate(diarizer.grid, diarizer.num_slots, voices, diarizer.hears, soft)
        workers = self.config.num_workers
        return DataLoader(
            cast(Dataset[Batch], _Batches(dataset, collate)),
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


class _Batches(Dataset[Batch | DiarizeError]):
    """A dataset by the batch; a mistake of the user's is handed on in place of its batch.

    Raised in a worker, it would reach the user inside torch's report of a traceback.
    """

    def __init__(self, dataset: Dataset[Example], collate: Collate) -> None:
        self._dataset, self._collate = dataset, collate

    def __len__(self) -> int:
        return len(cast(SessionDataset, self._dataset))

    def __getitems__(self, indices: list[int]) -> Batch | DiarizeError:
        try:
            return self._collate([self._dataset[index] for index in indices])
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
