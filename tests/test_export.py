"""`diarize export`: graphs that answer as the model does, run by onnxruntime without torch."""

import io
import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from test_nemo import CONFIG, weights
from test_streaming import noise
from torch import Tensor, nn

from diarize.checkpoint import load_checkpoint
from diarize.cli import main
from diarize.config import load_config
from diarize.errors import CheckpointError, ConfigError
from diarize.exported import (
    GRAPH,
    ExportedDiarizer,
    GraphConfig,
    is_exported,
    refuse_overflow,
)
from diarize.exported_stream import ExportedStream
from diarize.frontend.features import Features, FeaturesConfig
from diarize.frontend.log_mel import LogMel, LogMelConfig
from diarize.inference import InferenceConfig, diarize_features, diarize_waveform
from diarize.model import Diarizer, DiarizerConfig
from diarize.module import TrainingConfig
from diarize.streaming import StreamingDiarizer

pytest.importorskip("onnxscript", reason="pip install 'diarize[export]'")
pytest.importorskip("onnxruntime", reason="pip install 'diarize[onnx]'")

from diarize.export import export, round_weights  # noqa: E402

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "recipes" / "demo" / "conversation.flac"
SHORT = "chunk=4,left=1,right=2,fifo=6,cache=20,update=5,silence=3"

WITHOUT_TORCH = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchaudio", "safetensors", "onnx", "onnxscript"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
from diarize.cli import main
sys.exit(main(sys.argv[1:]))
"""


def without_torch(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def turns(rttm: str) -> list[list[str]]:
    """Lines but for their confidence, whose last digits differ."""
    return [line.split()[:8] for line in rttm.splitlines()]


@pytest.fixture(scope="module")
def nemo(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """``nemo(streaming)``: a tiny Sortformer as NeMo publishes it, v2 or v1."""
    folder = tmp_path_factory.mktemp("nemo")

    def make(streaming: bool) -> Path:
        settings = CONFIG | {"streaming_mode": streaming}
        if streaming:
            settings["preprocessor"] = CONFIG["preprocessor"] | {"normalize": "NA"}
        mel, tensors = LogMel(LogMelConfig(num_mels=16)), weights()
        tensors["preprocessor.featurizer.window"] = mel.window
        tensors["preprocessor.featurizer.fb"] = mel.filter_bank[None]
        buffer = io.BytesIO()
        torch.save(tensors, buffer)
        files = {
            "./model_config.yaml": yaml.safe_dump(settings).encode(),
            "./model_weights.ckpt": buffer.getvalue(),
        }
        path = folder / f"v{1 + streaming}.nemo"
        with tarfile.open(path, "w") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return path

    return make


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packaged model as a graph."""
    folder = tmp_path_factory.mktemp("packaged") / "graph"
    assert main(["export", "default", "-o", str(folder), "--format", "onnx"]) == 0
    return folder


@pytest.fixture(scope="module")
def of_features(tmp_path_factory: pytest.TempPathFactory) -> tuple[Diarizer, Path]:
    """A small model that hears features, and its graph."""
    torch.manual_seed(0)
    front_end = {
        "_target_": "diarize.frontend.features.Features",
        "dim": 6,
        "frame_shift": 0.1,
        "normalization": "per_feature",
    }
    encoder = {
        "_target_": "diarize.encoder.transformer.Transformer",
        "width": 8,
        "inner": 8,
        "num_layers": 1,
        "num_heads": 2,
    }
    config = load_config(DiarizerConfig, values={"front_end": front_end, "encoder": encoder})
    diarizer = Diarizer(config).eval()
    with torch.no_grad():
        diarizer.head.output.weight.mul_(10)
    return diarizer, export(diarizer, tmp_path_factory.mktemp("features") / "graph")


def differ(diarizer: Diarizer, folder: Path, lengths: list[int]) -> float:
    """The most that posteriors and embeddings of a padded batch of noise differ."""
    exported = ExportedDiarizer(folder, "cpu")
    num_samples = np.array(lengths, dtype=np.int64)
    signal = noise(max(lengths) / 16000, 4)[None] * np.linspace(1, 0.3, len(lengths))[:, None]
    signal = signal.astype(np.float32)
    own, other = (network.judge(signal, num_samples) for network in (diarizer, exported))
    counts = [diarizer.grid.num_frames(length) for length in lengths]
    return max(
        float(np.abs(mine[row, :count] - theirs[row, :count]).max())
        for mine, theirs in zip(own, other, strict=True)
        for row, count in enumerate(counts)
    )


BATCHES = [[16000 * 9, 70123, 1280 * 60], [33333], [900]]


def test_the_packaged_model(packaged: Path) -> None:
    diarizer = load_checkpoint()
    for lengths in BATCHES:
        assert differ(diarizer, packaged, lengths) < 1e-4
    assert is_exported(packaged) and not is_exported(packaged.parent)
    exported = ExportedDiarizer(packaged)
    assert (exported.grid, exported.hears) == (diarizer.grid, diarizer.hears)
    assert exported.num_slots == diarizer.num_slots
    own, other = InferenceConfig.of(diarizer), InferenceConfig.of(exported)  # type: ignore[arg-type]
    assert (own.window, own.postprocess) == (other.window, other.postprocess)


def test_speakers_sorted_in_every_layer(tmp_path: Path) -> None:
    files = [ROOT / "conf" / "small.yaml", ROOT / "recipes/ablation/conf/sinusoidal.yaml"]
    settings = load_config(TrainingConfig, files, ["diarizer.front_end.num_layers=1"])
    torch.manual_seed(0)
    diarizer = Diarizer(settings.diarizer).eval()
    with torch.no_grad():
        for head in (diarizer.head.output, *(head[1] for head in diarizer.encoder.heads)):
            head.weight.mul_(20)
    export(diarizer, tmp_path / "graph")
    for lengths in BATCHES:
        assert differ(diarizer, tmp_path / "graph", lengths) < 1e-4


def test_sortformer_v1(nemo: Callable[[bool], Path], tmp_path: Path) -> None:
    diarizer = load_checkpoint(nemo(False))
    export(diarizer, tmp_path / "graph")
    for lengths in BATCHES:
        assert differ(diarizer, tmp_path / "graph", lengths) < 1e-4


def test_sortformer_v2_step_by_step_without_torch(
    nemo: Callable[[bool], Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """A file, and a stream, with a cache that is full three times over."""
    model, folder = nemo(True), tmp_path / "graph"
    assert main(["export", str(model), "-o", str(folder), "--latency", SHORT]) == 0
    diarizer, exported = load_checkpoint(model), ExportedDiarizer(folder)
    streams = StreamingDiarizer(diarizer, SHORT), ExportedStream(exported)
    samples = noise(13.0)
    own, other = (np.concatenate([s.feed(samples), s.finish()]) for s in streams)
    assert len(own) == len(other) == 163
    assert np.abs(own - other).max() < 1e-4
    capsys.readouterr()
    median = str(np.median(own))
    flags = ["--onset", median, "--offset", median]
    for verb in (["infer"], ["stream"]):
        asked = [*verb, DEMO, *flags, "--latency", SHORT, "--model"]
        assert main([*map(str, asked), str(model)]) == 0
        told = without_torch(*asked, folder)
        assert told.returncode == 0, told.stderr
        assert turns(told.stdout) == turns(capsys.readouterr().out) != []
    refused = without_torch("infer", DEMO, "--model", folder, "--latency", "chunk=5,right=2")
    assert refused.returncode == 1
    assert "exported for latency chunk=4,left=1,right=2,fifo=6,cache=20" in refused.stderr
    assert "but chunk=5,right=2 is asked for. Export the model again" in refused.stderr


def test_recordings_are_diarized_without_torch(
    packaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["infer", str(DEMO)]) == 0
    wanted = capsys.readouterr().out
    told = without_torch("infer", DEMO, "--model", packaged)
    assert told.returncode == 0, told.stderr
    assert turns(told.stdout) == turns(wanted)
    assert wanted.count("SPEAKER conversation") > 5
    windows = ["--window", "20", "--format", "rttm,json", "--output", tmp_path]
    told = without_torch("infer", DEMO, "--model", packaged, *windows)
    assert told.returncode == 0, told.stderr
    (record,) = tmp_path.glob("*.passport")
    written = json.loads((tmp_path / "conversation.json").read_text())
    digest = sha256((packaged / GRAPH).read_bytes()).hexdigest()
    for made in (json.loads(record.read_text()), written["made_by"]):
        assert made["weights_sha256"] == digest
    told = without_torch("infer", DEMO)
    assert told.returncode == 1 and "Traceback" not in told.stderr
    assert "needs torch, but it is not installed" in told.stderr


def test_int8(packaged: Path, tmp_path: Path) -> None:
    """A third of the size; posteriors move by hundredths."""
    folder = tmp_path / "int8"
    shutil.copytree(packaged, folder)
    round_weights(folder / GRAPH)
    assert (folder / GRAPH).stat().st_size < 0.5 * (packaged / GRAPH).stat().st_size
    waveform = noise(20.0)
    own, other = (
        diarize_waveform(ExportedDiarizer(place), waveform).posterior
        for place in (packaged, folder)
    )
    assert 0 < np.abs(own - other).mean() < 0.03


def test_cpus_that_would_cut_off_sums_are_refused(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx512f\n")
    with pytest.raises(ConfigError, match=r"m: has int8 weights, but .* none of .*avx512_vnni"):
        refuse_overflow(Path("m"), cpuinfo, "x86_64")
    refuse_overflow(Path("m"), cpuinfo, "arm64")
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fpu avx2 avx_vnni\n")
    refuse_overflow(Path("m"), cpuinfo, "x86_64")
    refuse_overflow(Path("m"), tmp_path / "none", "x86_64")


def test_features(of_features: tuple[Diarizer, Path]) -> None:
    diarizer, folder = of_features
    rows = np.random.default_rng(0).normal(size=(57, 6))
    config = InferenceConfig(window=2.0, overlap=0.5, batch_size=2)
    own, other = (
        diarize_features(network, rows, config)  # type: ignore[arg-type]
        for network in (diarizer, ExportedDiarizer(folder))
    )
    assert own.posterior.std() > 0.01
    np.testing.assert_allclose(own.posterior, other.posterior, atol=1e-4)
    assert [(t.start, t.end) for t in own.turns] == [(t.start, t.end) for t in other.turns]


def test_a_folder_that_is_there_is_not_overwritten(
    of_features: tuple[Diarizer, Path], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["export", "default", "-o", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"diarize export: {tmp_path}: is there already, but nothing is overwritten. "
        "Give another --output.\n"
    )
    with pytest.raises(CheckpointError, match="is there already"):
        export(of_features[0], tmp_path)


class Doubtful(nn.Module):
    """Decides by what it hears, which no graph can."""

    width = 6

    def forward(self, embedding: Tensor, num_frames: Tensor) -> Tensor:
        return embedding if bool(embedding.sum() > 0) else -embedding


def test_a_model_that_is_no_graph_leaves_nothing(tmp_path: Path) -> None:
    front_end = Features(FeaturesConfig(dim=6, frame_shift=0.1))
    diarizer = Diarizer(DiarizerConfig(), front_end, Doubtful()).eval()
    with pytest.raises(CheckpointError, match=r"cannot be written as a graph: \w+: .* Take anoth"):
        export(diarizer, tmp_path / "new" / "graph")
    assert list((tmp_path / "new").iterdir()) == []


def test_models_that_hear_features_do_not_stream(
    of_features: tuple[Diarizer, Path], tmp_path: Path
) -> None:
    diarizer, folder = of_features
    with pytest.raises(ConfigError, match="but a stream is audio"):
        export(diarizer, tmp_path / "graph", latency="1.04s")
    with pytest.raises(ConfigError, match="graph: judges windows, but is to stream. Export"):
        ExportedStream(ExportedDiarizer(folder))


def test_streams_that_are_normalised_are_not_written(tmp_path: Path) -> None:
    front_end = {
        "_target_": "diarize.frontend.stacking.Stacking",
        "width": 8,
        "mel": {"num_mels": 8, "normalization": "per_feature", "prior_seconds": 5.0},
    }
    encoder = {
        "_target_": "diarize.encoder.transformer.Transformer",
        "width": 8,
        "inner": 8,
        "num_layers": 1,
        "num_heads": 2,
    }
    settings = {"front_end": front_end, "encoder": encoder}
    diarizer = Diarizer(load_config(DiarizerConfig, values=settings)).eval()
    with pytest.raises(CheckpointError, match="by all that it has heard so far, but the graph"):
        export(diarizer, tmp_path / "graph", latency="1.04s")
    assert not (tmp_path / "graph").exists()


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("config.yaml", "graph: [", r"config.yaml: cannot be read \(.*Export it again"),
        ("config.yaml", "card: {}", r"config.yaml: has no 'graph'"),
        ("config.yaml", None, r"config.yaml: cannot be read"),
        ("model.onnx", "no graph", r"model.onnx: cannot be run by onnxruntime \("),
    ],
)
def test_a_damaged_folder(
    of_features: tuple[Diarizer, Path],
    tmp_path: Path,
    name: str,
    content: str | None,
    message: str,
) -> None:
    folder = tmp_path / "graph"
    shutil.copytree(of_features[1], folder)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text(content)
    with pytest.raises(CheckpointError, match=message):
        ExportedDiarizer(folder)


def test_a_device_that_is_not_there(of_features: tuple[Diarizer, Path]) -> None:
    with pytest.raises(ConfigError, match="device 'tpu' cannot be used: onnxruntime has .*CPU"):
        ExportedDiarizer(of_features[1], "tpu")


def test_settings_of_a_graph_are_checked() -> None:
    with pytest.raises(ConfigError, match="weights is 'int4', but it may be float32 or int8"):
        GraphConfig(num_slots=4, sample_rate=16000, hop=1280, step=160, weights="int4")
