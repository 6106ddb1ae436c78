"""Sessions as batches: recorded ones, simulated ones, and the order in which they come."""

from diarize.data.batch import Batch, Collate, Example
from diarize.data.draws import DrawConfig
from diarize.data.pool import BatchSizes, WindowPool
from diarize.data.recorded import SessionDataset, open_sessions
from diarize.data.sampling import BatchOrder, Draw, Lane, SharedBatches, Source, StreamSampler
from diarize.data.sharding import write_shards
from diarize.data.shards import is_sharded, open_shards
from diarize.data.simulated import Simulated

__all__ = [
    "Batch",
    "BatchOrder",
    "BatchSizes",
    "Collate",
    "Draw",
    "DrawConfig",
    "Example",
    "Lane",
    "SessionDataset",
    "SharedBatches",
    "Simulated",
    "Source",
    "StreamSampler",
    "WindowPool",
    "is_sharded",
    "open_sessions",
    "open_shards",
    "write_shards",
]
