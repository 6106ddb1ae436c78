"""Models written as ONNX graphs, which `diarize.exported` runs without torch.

B batch, N samples, T frames, S slots, D embedding width, F numbers in a row of features.
"""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from diarize.errors import CheckpointError
from diarize.exported import (
    GRAPH,
    MEMORY,
    STEP_NUMBERS,
    ExportedDiarizer,
    GraphConfig,
    refuse_existing,
    write_config,
)
from diarize.exported_stream import ExportedStream
from diarize.graph import as_written
from diarize.inference import InferenceConfig
from diarize.latency import format_latency, parse_latency
from diarize.model import Diarizer
from diarize.recording import AUDIO
from diarize.step import Step
from diarize.streaming import StreamingDiarizer, refuse_windowed

OPSET = 20
"""Version of ONNX's operators."""

EXAMPLE = (2, 200)
"""Windows, and frames in each, of what a network is traced with: whatever is 1 there, such as the
number of blocks of a short window, would be 1 for ever."""


class Windows(nn.Module):
    """A network as its graph has it."""

    def __init__(self, diarizer: Diarizer) -> None:
        super().__init__()
        self.diarizer = diarizer

    def forward(self, signal: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        """Posteriors (B, T * upsampling, S) and embeddings (B, T, D).

        Args:
            signal: (B, T, N), a row of samples for each frame of the front end; or of features.
            num_samples: (B,), samples before padding.
        """
        if self.diarizer.hears == AUDIO:
            signal = signal.flatten(1)
        embedding, num_frames = self.diarizer.embed(signal, num_samples)
        return self.diarizer.classify(embedding, num_frames).sigmoid(), embedding


def export(
    diarizer: Diarizer,
    folder: str | Path,
    latency: str | None = None,
    int8: bool = False,
    card: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Write a model as a graph: for windows of any length and number, or the step of streams.

    Args:
        diarizer: on the CPU; it is left in evaluation mode.
        folder: must not be there yet; it appears whole or not at all.
        latency: as `parse_latency` takes it; default: what the model recommends.
        int8: weights of linear maps in 8 bits, one scale for each output; what they are multiplied
            by is rounded to 8 bits as it comes.
        card: facts about the model's making, plain values.

    Returns:
        The folder.

    Raises:
        CheckpointError: if the folder is there, or the network cannot be written.
        ConfigError: if the model does not know the latency, or cannot stream.
    """
    folder = Path(folder)
    refuse_existing(folder)
    for package in ("onnxscript", "onnxruntime"):
        import_module(package)  # or say so before anything is done
    config = InferenceConfig.of(diarizer)
    config = replace(config, latency=latency or config.latency)
    streaming = parse_latency(config.latency, config.latencies)
    graph = graph_of(diarizer, "int8" if int8 else "float32")
    if streaming is not None:
        refuse_windowed(diarizer)
        if diarizer.front_end.mel.config.normalization != "none":
            raise CheckpointError(
                "the model normalises what it hears by all that it has heard so far, but the graph "
                "of a step does not. Export it for windows: --latency offline."
            )
        step = Step(diarizer, streaming)
        graph = _graph_of_step(graph, step)
    latencies = {} if graph.latency is None else {config.latency: graph.latency}
    settings = asdict(replace(config, latencies=latencies))
    postprocess = settings.pop("postprocess")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        written = Path(temporary) / "written"
        written.mkdir()
        if streaming is None:
            _write_windows(diarizer, graph, written / GRAPH)
        else:
            _write_step(step, written / GRAPH)
        if int8:
            round_weights(written / GRAPH)
        write_config(written, graph, postprocess=postprocess, inference=settings, card=dict(card))
        written.rename(folder)
    return folder


def farthest(diarizer: Diarizer, folder: str | Path, frames: int = 100) -> float:
    """The most that a posterior of a graph differs from the model's, of noise.

    Args:
        diarizer: the model.
        folder: where its graph lies.
        frames: of the longer of two windows, or of a stream.
    """
    exported = ExportedDiarizer(folder, "cpu")
    graph = exported.graph
    lengths = frames * graph.hop, frames // 2 * graph.hop + graph.hop // 3
    shape = (2, lengths[0]) if graph.dim is None else (2, lengths[0] // graph.row, graph.dim)
    signal = np.random.default_rng(0).normal(0.0, 0.1, shape).astype(np.float32)
    if graph.latency is not None:
        streams = StreamingDiarizer(diarizer, exported.latency()), ExportedStream(exported)
        own, other = (np.concatenate([s.feed(signal[0]), s.finish()]) for s in streams)
        return float(np.abs(own - other).max())
    num_samples = np.array(lengths, dtype=np.int64)
    pairs = zip(
        diarizer.judge(signal, num_samples)[0], exported.judge(signal, num_samples)[0], strict=True
    )
    counts = [graph.grid.num_frames(length) for length in lengths]
    return max(
        float(np.abs(own[:count] - other[:count]).max())
        for (own, other), count in zip(pairs, counts, strict=True)
    )


def graph_of(diarizer: Diarizer, weights: str) -> GraphConfig:
    """What the graph of a model takes and answers, of windows."""
    grid, hears = diarizer.front_end.grid, diarizer.hears
    return GraphConfig(
        num_slots=diarizer.num_slots,
        sample_rate=grid.sample_rate,
        hop=grid.hop,
        step=grid.step,
        upsampling=diarizer.config.upsampling,
        dim=hears.dim,
        row=hears.grid.hop,
        weights=weights,
    )


def _graph_of_step(graph: GraphConfig, step: Step) -> GraphConfig:
    """The same of a stream."""
    return replace(
        graph,
        latency=format_latency(step.config),
        stretch=step.num_samples,
        reach=step.diarizer.front_end.mel.config.num_fft // 2,
        silence=step.begin(1).silence[0].tolist(),
    )


def _write_windows(diarizer: Diarizer, graph: GraphConfig, path: Path) -> None:
    batch, frames = EXAMPLE
    width = graph.hop if graph.dim is None else graph.dim
    rows = frames if graph.dim is None else frames * graph.hop // graph.row
    signal = torch.zeros(batch, rows, width)
    num_samples = torch.arange(frames, frames - batch, -1) * graph.hop
    inputs = {"signal": signal, "num_samples": num_samples}
    _write(Windows(diarizer), inputs, ["posterior", "embedding"], {"signal": 1}, path)


def _write_step(step: Step, path: Path) -> None:
    batch, config = EXAMPLE[0], step.config
    numbers = step.num_samples, step.num_rows, config.left, config.chunk
    inputs = {"signal": torch.zeros(batch, step.num_samples)}
    inputs |= {
        name: torch.full((batch,), value) for name, value in zip(STEP_NUMBERS, numbers, strict=True)
    }
    inputs |= step.begin(batch)._asdict()
    _write(step, inputs, ["posterior", *(f"next_{name}" for name in MEMORY)], {}, path)


def _write(
    network: nn.Module,
    inputs: dict[str, Tensor],
    outputs: list[str],
    free: dict[str, int],
    path: Path,
) -> None:
    """Write a network, its first axes free.

    Args:
        network: what is written.
        inputs: what it is traced with, by their names in the graph.
        outputs: names of what it answers.
        free: inputs of which another axis is free as well.
        path: of the graph.
    """
    dynamic = torch.export.Dim.DYNAMIC
    axes = {name: {0: dynamic} | ({free[name]: dynamic} if name in free else {}) for name in inputs}
    with as_written(), torch.no_grad(), _quiet():
        try:
            program = torch.onnx.export(
                network.eval(),
                tuple(inputs.values()),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=list(inputs),
                output_names=outputs,
                dynamic_shapes=tuple(axes.values()),
            )
            assert program is not None
            program.save(path)
        except torch.onnx.OnnxExporterError as error:
            raise CheckpointError(
                f"the model cannot be written as a graph: {_reason(error)}. Take another."
            ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporters tell of themselves: what they lack, will drop and pass over."""
    silenced = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(silenced)


def _reason(error: BaseException) -> str:
    """What lies behind an error of the exporter, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].strip() if lines else ''}"


def round_weights(path: Path) -> None:
    """Make the weights of linear maps int8, in place."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    rounded = path.with_name(f"rounded-{path.name}")
    with _quiet():
        quantize_dynamic(
            path,
            rounded,
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
    rounded.rename(path)
