"""Models that `diarize export` wrote as ONNX graphs: onnxruntime runs them, without torch.

A folder holds ``model.onnx`` and ``config.yaml``: ``graph`` (what goes in and comes out),
``postprocess`` and ``inference`` (how it is best run) and ``card`` (where it comes from).

B batch, N samples, T frames, S slots, D embedding width, F numbers in a row of features.
"""

import platform
from dataclasses import asdict, dataclass, field
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import OmegaConf

from diarize.config import check_choice, check_least, load_config
from diarize.errors import CheckpointError, ConfigError
from diarize.frames import FrameGrid
from diarize.latency import OFFLINE, StreamingConfig, parse_latency
from diarize.recording import AUDIO, Kind

Array = NDArray[np.float32]

GRAPH = "model.onnx"
CONFIG = "config.yaml"

WEIGHTS = ("float32", "int8")

STEP_NUMBERS = ("num_samples", "num_rows", "before", "own")
"""What the step of a stream is told of each, see `diarize.step`."""

MEMORY = (
    "cache",
    "cache_posterior",
    "num_cache",
    "was_full",
    "fifo",
    "num_fifo",
    "silence",
    "num_silence",
)
"""What a stream remembers, see `diarize.step`; what it does after a step begins with ``next_``."""

EIGHT_BIT_SUMS = {"avx512_vnni", "avx_vnni", "amx_int8"}
"""Instructions, as Linux names them, that add up products of 8 bits in 32."""


@dataclass(frozen=True)
class GraphConfig:
    """What a graph takes and answers."""

    num_slots: int
    """Speakers a window can hold."""
    sample_rate: int
    """Of what it hears, samples per second; of features, virtual ones."""
    hop: int
    """Samples of a frame of the front end: the width of a row of the input, if that is audio."""
    step: int
    """Samples of a feature step: a frame begins with a whole one."""
    upsampling: int = 1
    """Answers for each frame of the front end."""
    dim: int | None = None
    """Numbers in a row of the input, if that is features; null is audio."""
    row: int = 1
    """Virtual samples of such a row."""
    weights: str = "float32"
    """``float32``, or ``int8``, those of linear maps alone."""
    latency: str | None = None
    """Settings in frames of the streaming step that the graph is; null is windows."""
    stretch: int = 0
    """Samples that such a step is given."""
    reach: int = 0
    """Of these, what a row hears before the first sample of its own, and from it on."""
    silence: list[float] = field(default_factory=list)
    """What a stream knows of silence when it begins, a number for each of an embedding."""

    def __post_init__(self) -> None:
        check_least(self, num_slots=1, sample_rate=1, hop=1, step=1, upsampling=1, row=1)
        check_least(self, stretch=0, reach=0)
        check_choice("weights", self.weights, WEIGHTS)

    @property
    def grid(self) -> FrameGrid:
        """The clock of the answers."""
        return FrameGrid(self.sample_rate, self.hop // self.upsampling, self.step)

    @property
    def hears(self) -> Kind:
        """Audio, or features of some width and frame shift."""
        if self.dim is None:
            return AUDIO
        return Kind(self.dim, FrameGrid(self.sample_rate, self.row))


class ExportedDiarizer:
    """A model of which onnxruntime runs the graph.

    Args:
        folder: as `diarize export` wrote it.
        device: ``auto`` and ``cuda`` are onnxruntime's CUDA, if it is there; ``cpu``.

    Attributes:
        folder: where it lies.
        graph: what it takes and answers.
        postprocess: thresholds it was tuned with, as keys of `PostprocessConfig`.
        inference: how it is best run, as keys of `InferenceConfig`.

    Raises:
        CheckpointError: if it cannot be read.
        ConfigError: if this machine cannot run it.
    """

    def __init__(self, folder: str | Path, device: str = "auto") -> None:
        self.folder = Path(folder)
        sections = _read_sections(self.folder / CONFIG)
        self.graph = load_config(GraphConfig, values=sections["graph"])
        self.postprocess = sections["postprocess"]
        self.inference = sections["inference"]
        if self.graph.weights == "int8":
            refuse_overflow(self.folder)
        self._session = _open(self.folder / GRAPH, device)

    @property
    def grid(self) -> FrameGrid:
        """The clock of posteriors."""
        return self.graph.grid

    @property
    def hears(self) -> Kind:
        """Audio, or features of some width and frame shift."""
        return self.graph.hears

    @property
    def num_slots(self) -> int:
        """Speakers a window can hold."""
        return self.graph.num_slots

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the graph with its weights."""
        with (self.folder / GRAPH).open("rb") as file:
            whole = sha256()
            while piece := file.read(1 << 24):
                whole.update(piece)
        return whole.hexdigest()

    def judge(self, signal: Array, num_samples: NDArray[np.int64]) -> tuple[Array, Array]:
        """Posteriors and embeddings of a batch of windows.

        Args:
            signal: (B, N), -1 to 1; or (B, T, F), features.
            num_samples: (B,), samples before padding.

        Returns:
            (B, T * upsampling, S) and (B, T, D), without meaning beyond an item's frames.
        """
        if signal.ndim == 2:
            edge = -signal.shape[1] % self.graph.hop
            signal = np.pad(signal, ((0, 0), (0, edge)))
            signal = signal.reshape(len(signal), -1, self.graph.hop)
        posterior, embedding = self._session.run(
            None, {"signal": signal, "num_samples": num_samples}
        )
        return posterior, embedding

    def latency(self) -> StreamingConfig:
        """How it streams.

        Raises:
            ConfigError: if it was exported for windows.
        """
        if self.graph.latency is None:
            raise ConfigError(
                f"{self.folder}: judges windows, but is to stream. Export the model with "
                "--latency, such as 1.04s."
            )
        config = parse_latency(self.graph.latency)
        assert config is not None
        return config

    def refuse_latency(self, latency: str, config: StreamingConfig | None) -> None:
        """See that it is run as it was exported: a graph knows one way.

        Args:
            latency: as it is asked for.
            config: what that is; None is windows.

        Raises:
            ConfigError: if it is not.
        """
        own = None if self.graph.latency is None else self.latency()
        if config != own:
            knows = OFFLINE if own is None else self.graph.latency
            raise ConfigError(
                f"{self.folder}: was exported for latency {knows}, but {latency} is asked for. "
                "Export the model again, with that as --latency."
            )

    def begin(self) -> list[NDArray[np.generic]]:
        """What a stream remembers when it begins, as `step` takes it: of one stream."""
        config, slots = self.latency(), self.num_slots
        silence = np.array([self.graph.silence], dtype=np.float32)
        width, none = silence.shape[1], np.zeros(1, dtype=np.int64)
        cache, fifo = config.cache, max(config.fifo, 1)
        rows = (cache, width), (cache, slots), (fifo, width)
        of_cache, posterior, queue = (np.zeros((1, *shape), dtype=np.float32) for shape in rows)
        return [of_cache, posterior, none, none, queue, none, silence, none]

    def step(
        self, signal: Array, numbers: NDArray[np.int64], memory: list[NDArray[np.generic]]
    ) -> tuple[Array, list[NDArray[np.generic]]]:
        """The next chunks of some streams.

        Args:
            signal: (B, N), their samples with context, see `diarize.step`.
            numbers: (B, 4), of samples, rows, frames before the chunk, and its own.
            memory: of all of them, what they remember.

        Returns:
            Posteriors (B, C * upsampling, S), and what they remember after it.
        """
        told = dict(zip(STEP_NUMBERS, np.ascontiguousarray(numbers.T), strict=True))
        remembered = dict(zip(MEMORY, memory, strict=True))
        posterior, *after = self._session.run(None, {"signal": signal, **told, **remembered})
        return posterior, after


def is_exported(name_or_path: str | Path) -> bool:
    """Whether a folder holds a graph."""
    return (Path(name_or_path) / GRAPH).is_file()


def refuse_existing(folder: Path) -> None:
    """See that a folder is not there yet.

    Raises:
        CheckpointError: if it is.
    """
    if folder.exists():
        raise CheckpointError(
            f"{folder}: is there already, but nothing is overwritten. Give another --output."
        )


def write_config(folder: Path, graph: GraphConfig, **sections: dict[str, Any]) -> None:
    """Write what `ExportedDiarizer` reads beside the graph."""
    OmegaConf.save(OmegaConf.create({"graph": asdict(graph), **sections}), folder / CONFIG)


def _read_sections(path: Path) -> dict[str, dict[str, Any]]:
    try:
        config = OmegaConf.to_container(OmegaConf.load(path))
        sections = {
            name: dict(config.get(name) or {})  # type: ignore[union-attr]
            for name in ("graph", "postprocess", "inference")
        }
    except Exception as error:  # PyYAML's parse errors share no public base with OmegaConf's
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"{path}: cannot be read ({reason}), but says how {GRAPH} is run. Export it again."
        ) from None
    if not sections["graph"]:
        raise CheckpointError(
            f"{path}: has no 'graph', but {GRAPH} beside it is run by what that says. "
            "Export it again."
        )
    return sections


def _open(path: Path, device: str) -> Any:
    """A session of onnxruntime."""
    import onnxruntime

    available = onnxruntime.get_available_providers()
    kind = device.partition(":")[0]
    wanted = {"auto": None, "cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
    if kind not in wanted or wanted[kind] not in (None, *available):
        raise ConfigError(
            f"device {device!r} cannot be used: onnxruntime has {', '.join(available)} here. "
            "Try 'auto' or 'cpu'."
        )
    providers: list[Any] = ["CPUExecutionProvider"]
    if kind != "cpu" and "CUDAExecutionProvider" in available:
        number = device.partition(":")[2] or "0"
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": number}))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # its exceptions have no common base but this
        reason = str(error).splitlines()[0]
        raise CheckpointError(
            f"{path}: cannot be run by onnxruntime ({reason}). Export it again."
        ) from None


def refuse_overflow(
    folder: Path, cpuinfo: Path = Path("/proc/cpuinfo"), machine: str = platform.machine()
) -> None:
    """See that this CPU adds up products of 8 bits as the others do.

    Intel's and AMD's without VNNI do so in 16 bits, and cut off what does not fit.

    Args:
        folder: of the model.
        cpuinfo: what Linux says of the CPU; other systems are taken at their word.
        machine: its kind.

    Raises:
        ConfigError: if it does not.
    """
    if machine not in ("x86_64", "AMD64") or not cpuinfo.exists():
        return
    lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    flags = {flag for line in lines if line.startswith("flags") for flag in line.split()}
    if not flags & EIGHT_BIT_SUMS:
        raise ConfigError(
            f"{folder}: has int8 weights, but this CPU has none of "
            f"{', '.join(sorted(EIGHT_BIT_SUMS))} and would cut off sums. Export without --int8."
        )
