"""Sessions as batches: recorded ones, simulated ones, and the order in which they come."""

from diarize.data.batch import Batch, Collate, Example
from diarize.data.recorded import SessionDataset
from diarize.data.sampling import (
    MixedDataset,
    SharedBatches,
    SimulatedDataset,
    StreamSampler,
)

__all__ = [
    "Batch",
    "Collate",
    "Example",
    "MixedDataset",
    "SessionDataset",
    "SharedBatches",
    "SimulatedDataset",
    "StreamSampler",
]
