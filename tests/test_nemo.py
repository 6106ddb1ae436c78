"""NeMo's archives: read by name, without unpickling, and refused with a reason."""

import io
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import yaml
from torch import Tensor

from diarize.checkpoint import initialize, load_checkpoint, read_checkpoint
from diarize.cli import main
from diarize.config import load_config
from diarize.errors import CheckpointError
from diarize.model import Diarizer, DiarizerConfig
from diarize.nemo import NAMES, named
from diarize.postprocess import PostprocessConfig

Archive = Callable[..., Path]

CONFIG: dict[str, Any] = {
    "target": "nemo.collections.asr.models.sortformer_diar_models.SortformerEncLabelModel",
    "nemo_version": "3.0.0",
    "preprocessor": {
        "normalize": "per_feature",
        "window_size": 0.025,
        "sample_rate": 16000,
        "window_stride": 0.01,
        "window": "hann",
        "features": 16,
        "n_fft": 512,
    },
    "sortformer_modules": {"num_spks": 3, "dropout_rate": 0.5},
    "encoder": {
        "n_layers": 2,
        "d_model": 16,
        "subsampling": "dw_striding",
        "subsampling_factor": 8,
        "subsampling_conv_channels": 4,
        "n_heads": 2,
        "att_context_size": [-1, -1],
        "conv_kernel_size": 5,
    },
    "transformer_encoder": {
        "num_layers": 1,
        "hidden_size": 8,
        "inner_size": 12,
        "num_attention_heads": 2,
        "pre_ln": False,
    },
}


def weights() -> dict[str, Tensor]:
    """Random tensors of the settings above, by the names and in the shapes of NeMo."""
    generator = torch.Generator().manual_seed(0)

    def linear(name: str, outputs: int, inputs: int, *more: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (outputs, inputs, *more), f"{name}.bias": (outputs,)}

    def norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (width,), f"{name}.bias": (width,)}

    shapes: dict[str, tuple[int, ...]] = {
        "preprocessor.featurizer.window": (400,),
        "preprocessor.featurizer.fb": (1, 16, 257),
    }
    for number, inputs, *kernel in [(0, 1, 3, 3), (2, 1, 3, 3), (3, 4, 1, 1), (5, 1, 3, 3)]:
        shapes |= linear(f"encoder.pre_encode.conv.{number}", 4, inputs, *kernel)
    shapes |= linear("encoder.pre_encode.conv.6", 4, 4, 1, 1)
    shapes |= linear("encoder.pre_encode.out", 16, 8)
    for layer in ("encoder.layers.0", "encoder.layers.1"):
        for part in ("feed_forward1", "self_att", "conv", "feed_forward2", "out"):
            shapes |= norm(f"{layer}.norm_{part}", 16)
        for part in ("feed_forward1", "feed_forward2"):
            shapes |= linear(f"{layer}.{part}.linear1", 64, 16)
            shapes |= linear(f"{layer}.{part}.linear2", 16, 64)
        for part in ("q", "k", "v", "out"):
            shapes |= linear(f"{layer}.self_attn.linear_{part}", 16, 16)
        shapes[f"{layer}.self_attn.linear_pos.weight"] = (16, 16)
        for part in ("u", "v"):
            shapes[f"{layer}.self_attn.pos_bias_{part}"] = (2, 8)
        shapes |= linear(f"{layer}.conv.pointwise_conv1", 32, 16, 1)
        shapes |= linear(f"{layer}.conv.depthwise_conv", 16, 1, 5)
        shapes |= linear(f"{layer}.conv.pointwise_conv2", 16, 16, 1)
        shapes |= norm(f"{layer}.conv.batch_norm", 16)
        shapes |= {f"{layer}.conv.batch_norm.running_{k}": (16,) for k in ("mean", "var")}
    block = "transformer_encoder.layers.0"
    for part in ("query_net", "key_net", "value_net", "out_projection"):
        shapes |= linear(f"{block}.first_sub_layer.{part}", 8, 8)
    shapes |= linear(f"{block}.second_sub_layer.dense_in", 12, 8)
    shapes |= linear(f"{block}.second_sub_layer.dense_out", 8, 12)
    shapes |= norm(f"{block}.layer_norm_1", 8) | norm(f"{block}.layer_norm_2", 8)
    shapes |= linear("sortformer_modules.encoder_proj", 8, 16)
    shapes |= linear("sortformer_modules.first_hidden_to_hidden", 8, 8)
    shapes |= linear("sortformer_modules.single_hidden_to_spks", 3, 8)
    shapes |= linear("sortformer_modules.hidden_to_spks", 3, 16)
    tensors = {n: torch.rand(s, generator=generator) - 0.4 for n, s in shapes.items()}
    for layer in (0, 1):
        norm_name = f"encoder.layers.{layer}.conv.batch_norm"
        tensors[f"{norm_name}.running_var"].abs_()
        tensors[f"{norm_name}.num_batches_tracked"] = torch.tensor(7)
    return tensors


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """``archive(config=None, state=None, members=None, mode="w")`` -> path."""

    def write(config: Any = None, state: Any = None, members: Any = None, mode: str = "w") -> Path:
        if members is None:
            buffer = io.BytesIO()
            torch.save(weights() if state is None else state, buffer)
            text = config if isinstance(config, str) else yaml.safe_dump(config or CONFIG)
            members = {"model_config.yaml": text.encode(), "model_weights.ckpt": buffer.getvalue()}
        path = tmp_path / "model.nemo"
        with tarfile.open(path, mode) as tar:
            for name, content in members.items():
                member = tarfile.TarInfo(f"./{name}" if not name.startswith("/") else name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return path

    return write


def changed(section: str, **values: Any) -> dict[str, Any]:
    return CONFIG | {section: CONFIG[section] | values}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_archive_becomes_a_diarizer(archive: Archive, mode: str) -> None:
    diarizer = load_checkpoint(archive(mode=mode))
    assert diarizer.num_slots == 3 and not diarizer.training
    published, own = weights(), diarizer.state_dict()
    fb = published["preprocessor.featurizer.fb"]
    assert torch.equal(own["front_end.mel.filter_bank"], fb[0])
    pointwise = published["encoder.layers.1.conv.pointwise_conv1.weight"]
    assert torch.equal(own["front_end.layers.1.convolution.expand.weight"], pointwise[:, :, 0])
    hidden = published["sortformer_modules.first_hidden_to_hidden.bias"]
    assert torch.equal(own["head.hidden.bias"], hidden)
    posterior, num_frames = diarizer.posterior(torch.rand(1, 16000) - 0.5, torch.tensor([16000]))
    assert posterior.shape == (1, 13, 3) and num_frames.tolist() == [13]
    assert diarizer.front_end.mel.config.peak_scaling == "item"


def test_streaming_archives_are_not_scaled(archive: Archive) -> None:
    diarizer = load_checkpoint(archive(CONFIG | {"streaming_mode": True}))
    assert diarizer.front_end.mel.config.peak_scaling == "none"


def test_presets_are_those_of_its_generation(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    audio = tmp_path / "talk.wav"
    soundfile.write(audio, np.zeros(16000), 16000)
    asked: list[str] = []
    monkeypatch.setattr(
        "diarize.postprocess.load_postprocess", lambda n: asked.append(n) or PostprocessConfig()
    )
    streaming = changed("preprocessor", normalize="NA") | {"streaming_mode": True}
    for config in (CONFIG, streaming):
        command = ["infer", str(audio), "--model", str(archive(config))]
        assert main([*command, "--postprocess", "callhome"]) == 0
        assert main([*command, "--postprocess", "own.yaml"]) == 0
    assert asked == ["v1_callhome", "own.yaml", "v2_callhome", "own.yaml"]


def test_every_name_of_the_table_is_met() -> None:
    ours = {named(name, tensor)[0] for name, tensor in weights().items()}
    for _, inside in NAMES.values():
        for stem in inside.values():
            assert any(stem in name for name in ours), stem


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("a: [1", "its model_config.yaml is not YAML"),
        ("- 1", "holds a list, but only Sortformers"),
        (CONFIG | {"target": "nemo.EncDecCTCModel"}, "holds a nemo.EncDecCTCModel, but only"),
        ({"target": CONFIG["target"]}, "cannot be understood .KeyError: 'preprocessor'"),
        (changed("encoder", subsampling="vggnet"), "subsampling is 'vggnet', but only 'dw_stri"),
        (changed("encoder", att_context_size=[-1, 7]), "att_context_size is .-1, 7., but only as"),
        (changed("transformer_encoder", pre_ln=True), "pre_ln is True, but only False can"),
        (changed("transformer_encoder", mask_future=True), "^[^(]*mask_future is True, but only F"),
        (changed("encoder", reduction="pooling"), "encoder.reduction is 'pooling', but only None"),
        (
            changed("preprocessor", normalize="all_features"),
            "normalize is 'all_features', but only",
        ),
        (changed("preprocessor", mag_power=1.0), "mag_power is 1.0, but only 2.0 can be built"),
        (changed("preprocessor", log=False), "preprocessor.log is False, but only True can"),
        (changed("preprocessor", log_zero_guard_type="clamp"), "guard_type is 'clamp', but only"),
        (changed("preprocessor", log_zero_guard_value=1e-3), "guard_value is 0.001, but only"),
        (changed("preprocessor", exact_pad=True), "exact_pad is True, but only False can be"),
        (changed("preprocessor", sample_rate=8000), "sample_rate is 8000, but"),
        (changed("encoder", d_model=[1]), r"cannot be rebuilt\. .*width: Value"),
        (changed("encoder", n_layers=1), "37 tensors do not fit|tensors do not fit"),
        (changed("encoder", d_model=20_000), "tensors do not fit"),
    ],
)
def test_settings_of_something_else(archive: Archive, config: Any, message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as caught:
        load_checkpoint(archive(config))
    assert "model.nemo" in str(caught.value) and "\n" not in str(caught.value)


def test_every_tensor_that_does_not_fit_is_listed(archive: Archive) -> None:
    state = weights()
    del state["encoder.layers.1.norm_out.bias"]
    state["encoder.layers.0.norm_out.bias"] = torch.zeros(3)
    state["encoder.layers.0.surprise.bias"] = torch.zeros(3)
    with pytest.raises(CheckpointError, match="3 tensors do not fit") as caught:
        load_checkpoint(archive(state=state))
    told = str(caught.value)
    assert "front_end.layers.1.norm_output.bias is missing" in told
    assert "encoder.layers.0.surprise.bias is not in the model" in told
    assert "front_end.layers.0.norm_output.bias is (3,), but the model's is (16,)" in told


def test_weights_that_are_no_numbers(archive: Archive) -> None:
    state = weights()
    state["encoder.layers.0.norm_out.bias"][3] = float("nan")
    with pytest.raises(CheckpointError, match=r"1 tensors hold NaN .*layers\.0\.norm_output\.bias"):
        load_checkpoint(archive(state=state))


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_pickles_are_not_run(archive: Archive, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    config = yaml.safe_dump(CONFIG).encode()
    members = {"model_config.yaml": config, "model_weights.ckpt": pickle.dumps(Trap(trap))}
    with pytest.raises(CheckpointError, match="cannot be read as tensors"):
        load_checkpoint(archive(members=members))
    with pytest.raises(CheckpointError, match="cannot be read as tensors"):
        load_checkpoint(archive(state={"a": Trap(trap)}))
    with pytest.raises(CheckpointError, match="is no dict of tensors"):
        load_checkpoint(archive(state={"a": 1}))
    assert not trap.exists()


def test_damaged_archives(archive: Archive, tmp_path: Path) -> None:
    path = archive()
    whole = path.read_bytes()
    for content in (b"", b"no tar at all" * 99, whole[: len(whole) // 2]):
        path.write_bytes(content)
        with pytest.raises(
            CheckpointError, match=r"model\.nemo: is no whole tar archive"
        ) as caught:
            load_checkpoint(path)
        assert "\n" not in str(caught.value)
    tensor = weights()["encoder.pre_encode.out.weight"].numpy().tobytes()
    flipped = tensor[:9] + bytes([tensor[9] ^ 1]) + tensor[10:]
    path.write_bytes(whole.replace(tensor, flipped))
    with pytest.raises(CheckpointError, match=r"cannot be read as tensors \(.* is damaged\)"):
        load_checkpoint(path)
    packed = bytearray(archive(mode="w:gz").read_bytes())
    middle = len(packed) // 2
    packed[middle : middle + 64] = b"\xff" * 64
    path.write_bytes(packed)
    with pytest.raises(CheckpointError, match=r"model\.nemo: "):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match=r"has no model_weights\.ckpt"):
        load_checkpoint(archive(members={"model_config.yaml": b"a: 1"}))
    huge = {"model_config.yaml": b"a: 1", "model_weights.ckpt": bytes(10_000_000)}
    with pytest.raises(CheckpointError, match="says that it has 10000000 bytes"):
        load_checkpoint(archive(members=huge, mode="w:gz"))


@pytest.mark.parametrize("name", ["../model_config.yaml", "/etc/passwd", "a/../../b"])
def test_members_that_point_elsewhere(archive: Archive, name: str) -> None:
    with pytest.raises(CheckpointError, match="points out of the archive"):
        load_checkpoint(archive(members={name: b"x"}))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE], ids=str)
def test_members_that_are_no_files(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "model.nemo"
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo("model_weights.ckpt")
        member.type, member.linkname = kind, "/etc/passwd"
        tar.addfile(member)
    with pytest.raises(CheckpointError, match="is no plain file"):
        load_checkpoint(path)


def test_an_archive_starts_a_model_of_more_slots(archive: Archive) -> None:
    stored = read_checkpoint(archive())
    more = Diarizer(load_config(DiarizerConfig, values=stored.diarizer | {"num_slots": 8}))
    assert initialize(more, stored) == []
    published = weights()["sortformer_modules.single_hidden_to_spks.weight"]
    assert torch.equal(more.head.output.weight[:3], published)
