import dataclasses
import errno
import pickle
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

import diarize.checkpoint as checkpoint_module
from diarize.checkpoint import (
    Checkpoint,
    initialize,
    load_checkpoint,
    packaged_models,
    read_checkpoint,
    save_checkpoint,
)
from diarize.config import load_config, to_dict
from diarize.errors import CheckpointError
from diarize.model import Diarizer, DiarizerConfig

SIZES = [
    "front_end.width=16",
    "front_end.num_layers=1",
    "front_end.num_heads=2",
    "front_end.subsampling_channels=4",
    "encoder.width=8",
    "encoder.inner=8",
    "encoder.num_layers=1",
    "encoder.num_heads=2",
]


def make(*overrides: str) -> Diarizer:
    """A model of a few thousand parameters, ready to infer."""
    return Diarizer(load_config(DiarizerConfig, overrides=[*SIZES, *overrides])).eval()


@pytest.fixture
def diarizer() -> Diarizer:
    model = make()
    model.postprocess, model.inference = {"onset": 0.6}, {"window": 30.0}
    return model


def train_file(path: Path, diarizer: Diarizer) -> Path:
    """A checkpoint as `diarize train` leaves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {f"diarizer.{name}": tensor for name, tensor in diarizer.state_dict().items()}
    values = {
        "diarizer_config": to_dict(diarizer.config),
        "postprocess": diarizer.postprocess,
        "inference": diarizer.inference,
    }
    stored = {"state_dict": {**state, "voices.weight": torch.ones(3)}, "hyper_parameters": values}
    torch.save(stored, path)
    return path


def assert_same(one: Diarizer, other: Diarizer, **tolerance: float) -> None:
    batch = torch.randn(2, 16000), torch.tensor([16000, 9000])
    with torch.no_grad():
        torch.testing.assert_close(one(*batch)[0], other(*batch)[0], **tolerance)


def test_a_model_comes_back_as_it_was(diarizer: Diarizer, tmp_path: Path) -> None:
    folder = save_checkpoint(diarizer, tmp_path / "new" / "model", card={"licence": "CC-BY-4.0"})
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "model.safetensors"]
    for loaded in (load_checkpoint(folder), Diarizer.from_pretrained(str(folder))):
        assert_same(loaded, diarizer)
        assert not loaded.training
        assert loaded.config == diarizer.config
        assert loaded.postprocess == {"onset": 0.6} and loaded.inference == {"window": 30.0}
    assert read_checkpoint(folder).card == {"licence": "CC-BY-4.0"}


def test_float16_halves_parameters_alone(diarizer: Diarizer, tmp_path: Path) -> None:
    folder = save_checkpoint(diarizer, tmp_path, dtype=torch.float16)
    stored = load_file(folder / "model.safetensors")
    parameters = dict(diarizer.named_parameters())
    assert {t.dtype for n, t in stored.items() if n in parameters} == {torch.float16}
    assert stored["front_end.mel.filter_bank"].dtype == torch.float32
    loaded = load_checkpoint(folder)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert_same(loaded, diarizer, atol=0.02, rtol=0.02)


def test_a_packaged_model_is_found_by_name(
    diarizer: Diarizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_module, "WEIGHTS", tmp_path)
    save_checkpoint(diarizer, tmp_path / "default")
    assert packaged_models() == ["default"]
    assert_same(load_checkpoint(), diarizer)
    with pytest.raises(CheckpointError, match="^defualt: is no .* packaged models are: default"):
        load_checkpoint("defualt")


def test_training_checkpoints_load(diarizer: Diarizer, tmp_path: Path) -> None:
    path = train_file(tmp_path / "exp" / "first" / "checkpoints" / "last.ckpt", diarizer)
    assert_same(load_checkpoint(path), diarizer)
    assert_same(load_checkpoint(tmp_path / "exp" / "first"), diarizer)
    best = make()
    train_file(path.with_name("best.ckpt"), best)
    loaded = load_checkpoint(tmp_path / "exp" / "first")
    assert_same(loaded, best)
    save_checkpoint(load_checkpoint(path), tmp_path / "native")
    assert load_checkpoint(tmp_path / "native").postprocess == {"onset": 0.6}


def test_every_misfit_is_named_at_once(diarizer: Diarizer, tmp_path: Path) -> None:
    folder = save_checkpoint(diarizer, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["head.output.bias"]
    tensors["head.output.scale"] = torch.ones(4)
    tensors["head.hidden.bias"] = torch.ones(5)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(folder)
    assert f"{folder}: 3 tensors do not fit" in str(error.value)
    assert "head.output.bias is missing" in str(error.value)
    assert "head.output.scale is not in the model" in str(error.value)
    assert "head.hidden.bias is (5,), but the model's is (8,)" in str(error.value)


def test_settings_that_no_longer_exist_are_named(diarizer: Diarizer, tmp_path: Path) -> None:
    folder = save_checkpoint(diarizer, tmp_path)
    text = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(text.replace("pre_norm", "prenorm"))
    with pytest.raises(CheckpointError, match="prenorm is not a setting .* mean pre_norm"):
        load_checkpoint(folder)


def test_what_is_no_checkpoint_is_refused(diarizer: Diarizer, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nowhere: is no packaged model, file or folder"):
        load_checkpoint(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="holds neither model.safetensors with config.yaml"):
        load_checkpoint(tmp_path)
    folder = save_checkpoint(diarizer, tmp_path / "model")
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:1000])
    with pytest.raises(CheckpointError, match="model.safetensors: cannot be read"):
        load_checkpoint(folder)
    (folder / "config.yaml").write_text("postprocess: {}")
    with pytest.raises(CheckpointError, match="config.yaml: has no 'diarizer'"):
        load_checkpoint(folder)
    (folder / "config.yaml").write_text("a: b: c")
    with pytest.raises(CheckpointError, match="config.yaml: is not YAML"):
        load_checkpoint(folder)


def test_broken_training_checkpoints_are_refused(diarizer: Diarizer, tmp_path: Path) -> None:
    path = train_file(tmp_path / "a.ckpt", diarizer)
    for length in (2000, 0):
        path.write_bytes(path.read_bytes()[:length])
        with pytest.raises(
            CheckpointError, match=r"a.ckpt: cannot be read \(\w+.*\)\. Is the file"
        ):
            load_checkpoint(path)
    torch.save({"state_dict": {}}, path)
    with pytest.raises(CheckpointError, match="a.ckpt: has no 'hyper_parameters'"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(print, protocol=2))
    with pytest.raises(CheckpointError, match="a.ckpt: cannot be read"):
        load_checkpoint(path)


def test_a_failed_write_leaves_the_old_model(
    diarizer: Diarizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_checkpoint(diarizer, tmp_path)

    def fail(path: Path, content: bytes) -> None:
        with path.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(make(), folder)
    assert len(list(folder.iterdir())) == 2
    monkeypatch.undo()
    assert_same(load_checkpoint(folder), diarizer)


def test_whoever_may_read_the_settings_may_read_the_weights(
    diarizer: Diarizer, tmp_path: Path
) -> None:
    modes = {path.stat().st_mode for path in save_checkpoint(diarizer, tmp_path).iterdir()}
    assert len(modes) == 1


def test_a_model_starts_from_anothers_front_end(diarizer: Diarizer, tmp_path: Path) -> None:
    folder = save_checkpoint(diarizer, tmp_path)
    other = make("num_slots=6", "encoder.num_layers=2")
    left = initialize(other, read_checkpoint(folder))
    assert "encoder.layers.1.query.weight" in left
    assert not [name for name in left if name.startswith(("front_end.", "projection.", "head."))]
    expected, found = diarizer.state_dict(), other.state_dict()
    grown = {"head.output.weight", "head.output.bias"}
    for name in set(found) - set(left) - grown:
        torch.testing.assert_close(found[name], expected[name])
    for name in grown:
        torch.testing.assert_close(found[name][:4], expected[name])
        assert len(found[name]) == 6
    left = initialize(make("num_slots=3"), read_checkpoint(folder))
    assert set(left) == grown  # which of them go is not ours to say


def test_a_prior_is_stored_and_taken_over_and_no_start_needs_one(
    diarizer: Diarizer, tmp_path: Path
) -> None:
    known = make("front_end.mel.prior_seconds=3")
    known.front_end.mel.heard.normal_()
    folder = save_checkpoint(known, tmp_path / "known", torch.float16)
    again = load_checkpoint(folder).front_end.mel
    assert torch.equal(again.heard, known.front_end.mel.heard) and again.config.prior_seconds == 3
    other = make("front_end.mel.prior_seconds=5")
    assert initialize(other, read_checkpoint(folder)) == []
    assert torch.equal(other.front_end.mel.heard, known.front_end.mel.heard)
    assert initialize(make(), read_checkpoint(folder)) == []
    other = make("front_end.mel.prior_seconds=5")
    without = read_checkpoint(save_checkpoint(diarizer, tmp_path / "without"))
    assert initialize(other, without) == ["front_end.mel.heard"]
    assert not other.front_end.mel.heard.any()


def test_known_slots_answer_as_before_where_there_are_more(
    diarizer: Diarizer, tmp_path: Path
) -> None:
    folder = save_checkpoint(diarizer, tmp_path)
    other = make("num_slots=7")
    assert initialize(other, read_checkpoint(folder)) == []
    batch = torch.randn(2, 16000), torch.tensor([16000, 9000])
    with torch.no_grad():
        torch.testing.assert_close(other(*batch)[0][:, :, :4], diarizer(*batch)[0])


def test_slots_of_every_layer_that_estimates_are_more() -> None:
    layerwise = [
        "encoder._target_=diarize.encoder.sortformer.SortFormer",
        "encoder.num_layers=3",
        "encoder.encoding=learned",
    ]
    known, other = make(*layerwise, "num_slots=2"), make(*layerwise, "num_slots=5")
    stored = Checkpoint(Path("x"), to_dict(known.config), known.state_dict(), {}, {}, {})
    assert initialize(other, stored) == []
    grown = ["encoder.heads.0.1.weight", "encoder.heads.1.1.bias", "encoder.places"]
    for name in grown:
        assert len(other.state_dict()[name]) == 5
        assert torch.equal(other.state_dict()[name][:2], known.state_dict()[name])


def test_a_front_end_of_another_size_is_no_start(diarizer: Diarizer, tmp_path: Path) -> None:
    folder = save_checkpoint(diarizer, tmp_path)
    other = make("front_end.width=20")
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(
        CheckpointError, match=r"front end do not fit .* is \(16,\), but .* \(20,\)"
    ):
        initialize(other, read_checkpoint(folder))
    for name, tensor in other.state_dict().items():
        torch.testing.assert_close(tensor, before[name])


def test_a_checkpoint_outlives_a_change_of_defaults(diarizer: Diarizer, tmp_path: Path) -> None:
    stored = read_checkpoint(save_checkpoint(diarizer, tmp_path)).diarizer
    config_class = type(diarizer.front_end.config)
    names = {field.name for field in dataclasses.fields(config_class)}
    assert set(stored["front_end"]) == {"_target_", *names}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("postprocess: [1]", "config.yaml: 'postprocess' is a list, but it holds settings by name"),
        ("card: {dtype: x, folder: y}", None),
        (
            "inference: {latency: '${oc.env:HOME}'}",
            r"config.yaml: holds '\$\{', but a checkpoint's",
        ),
    ],
)
def test_settings_of_strangers(
    line: str, message: str | None, diarizer: Diarizer, tmp_path: Path
) -> None:
    folder = save_checkpoint(diarizer, tmp_path)
    config = yaml.safe_load((folder / "config.yaml").read_text()) | yaml.safe_load(line)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    if message is None:
        save_checkpoint(diarizer, tmp_path / "again", card=read_checkpoint(folder).card)
        return
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)
