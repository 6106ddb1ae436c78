"""`diarize convert`: any model as a native folder, which answers as it did."""

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import test_nemotron
import torch
import yaml
from safetensors.torch import load_file, save_file
from standin import Repository, StandIn
from test_nemo import CONFIG, weights

from diarize.checkpoint import load_checkpoint, read_checkpoint, save_checkpoint
from diarize.cli import main
from diarize.hub import PUBLISHED
from diarize.model import Diarizer

V1 = "nvidia/diar_sortformer_4spk-v1"
NEMOTRON = "nvidia/Nemotron-3-Diarization"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A streaming Sortformer as NeMo publishes it, of a few thousand parameters."""
    buffer = io.BytesIO()
    torch.save(weights(), buffer)
    settings = yaml.safe_dump(CONFIG | {"streaming_mode": True})
    path = tmp_path / "tiny.nemo"
    with tarfile.open(path, "w") as tar:
        for name, content in [
            ("./model_config.yaml", settings.encode()),
            ("./model_weights.ckpt", buffer.getvalue()),
        ]:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def answer(diarizer: Diarizer) -> torch.Tensor:
    waveform = torch.rand(2, 16000, generator=torch.Generator().manual_seed(1)) - 0.5
    with torch.no_grad():
        return diarizer.posterior(waveform, torch.tensor([16000, 9000]))[0]


def convert(model: object, output: Path, *arguments: str) -> int:
    return main(["convert", str(model), "--output", str(output), *arguments])


def test_a_converted_model_answers_bit_by_bit(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    output = tmp_path / "new" / "native"
    assert convert(archive, output) == 0
    captured = capsys.readouterr()
    size = (output / "model.safetensors").stat().st_size / 1e6
    assert captured.out == ""
    assert captured.err == f"diarize convert: {output}: {size:.1f} MB in float32.\n"
    before, after = read_checkpoint(archive), read_checkpoint(output)
    assert after.inference == before.inference and after.inference["latency"]
    assert after.card == before.card | {"converted_from": "tiny.nemo"}
    assert torch.equal(answer(load_checkpoint(output)), answer(load_checkpoint(archive)))


def test_what_a_native_model_says_of_itself_is_kept(archive: Path, tmp_path: Path) -> None:
    diarizer = load_checkpoint(archive)
    diarizer.postprocess = {"onset": 0.6}
    facts = {"licence": "mit", "converted_from": "lab/x", "steps": [{"name": "one"}]}
    folder = save_checkpoint(diarizer, tmp_path / "one", card=facts)
    assert convert(folder, tmp_path / "two") == 0
    after = read_checkpoint(tmp_path / "two")
    assert after.card == facts and after.postprocess == {"onset": 0.6}
    assert convert("default", tmp_path / "three") == 0
    assert torch.equal(answer(load_checkpoint(tmp_path / "three")), answer(load_checkpoint()))
    card = read_checkpoint(tmp_path / "three").card
    assert card == read_checkpoint("default").card | {"converted_from": "default"}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_the_size(archive: Path, tmp_path: Path, dtype: str) -> None:
    assert convert(archive, tmp_path / "half", "--dtype", dtype) == 0
    diarizer = load_checkpoint(tmp_path / "half")
    stored = load_file(tmp_path / "half" / "model.safetensors")
    assert {stored[name].dtype for name, _ in diarizer.named_parameters()} == {
        getattr(torch, dtype)
    }
    assert diarizer.inference == load_checkpoint(archive).inference
    torch.testing.assert_close(
        answer(diarizer), answer(load_checkpoint(archive)), atol=0.05, rtol=0
    )


def test_numbers_that_do_not_fit(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    diarizer = load_checkpoint(archive)
    with torch.no_grad():
        diarizer.head.output.bias[0] = -7e4
    folder = save_checkpoint(diarizer, tmp_path / "loud")
    assert convert(folder, tmp_path / "half", "--dtype", "float16") == 1
    told = f"{folder}: head.output.bias goes to 70000, but float16 ends at 65504. Give another --d"
    assert told in capsys.readouterr().err and not (tmp_path / "half").exists()
    assert convert(folder, tmp_path / "half", "--dtype", "bfloat16") == 0


@pytest.mark.parametrize(
    "held", ["model.safetensors", "config.yaml", "config.json", "checkpoints/last.ckpt"]
)
def test_no_model_is_overwritten(held: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / held).parent.mkdir(exist_ok=True)
    (tmp_path / held).write_text("mine")
    assert convert("no_such", tmp_path) == 1
    assert capsys.readouterr().err == (
        f"diarize convert: {tmp_path}: holds {held.split('/')[0]}, but a model that is there is "
        "not overwritten. Give another --output.\n"
    )
    assert (tmp_path / held).read_text() == "mine"


def test_mistakes_leave_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert convert(tmp_path / "gone", tmp_path / "native") == 1
    assert "gone: is no packaged model, file or folder" in capsys.readouterr().err
    assert not (tmp_path / "native").exists()
    (tmp_path / "file").touch()
    assert convert("default", tmp_path / "file") == 1
    assert capsys.readouterr().err == f"diarize convert: {tmp_path / 'file'}: File exists.\n"
    with pytest.raises(SystemExit) as caught:
        convert("default", tmp_path / "native", "--dtype", "int8")
    assert caught.value.code == 2


@pytest.mark.parametrize("name", [V1, NEMOTRON])
def test_a_published_model_is_fetched_and_keeps_its_name(
    name: str, archive: Path, tmp_path: Path
) -> None:
    pytest.importorskip("huggingface_hub")
    local, output = archive, tmp_path / "native"
    if name == NEMOTRON:
        local = tmp_path / "theirs"
        local.mkdir()
        settings = test_nemotron.CONFIG | {"chunk_length": 340, "chunk_right_context": 40}
        (local / "config.json").write_text(json.dumps(settings))
        (local / "processor_config.json").write_text("{}")
        save_file(test_nemotron.weights(), local / "model.safetensors")
    known = PUBLISHED[name]
    files = {file: (local / file if local.is_dir() else local).read_bytes() for file in known.files}
    with StandIn(tmp_path / "home") as hub:
        hub.published[name] = Repository(files)
        done = subprocess.run(
            [sys.executable, "-m", "diarize", "convert", name, "--output", str(output)],
            env=hub.environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
    assert done.returncode == 0 and done.stdout == "", done.stderr
    assert done.stderr.startswith(f"{name}: is downloaded, ")
    assert f"licence: {known.licence}\n" in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"diarize convert: {output}: ")
    before, after = read_checkpoint(local), read_checkpoint(output)
    assert after.card == before.card | {"converted_from": name, "licence": known.licence}
    assert after.inference == before.inference
    if name == NEMOTRON:
        named = set(after.inference["latencies"]) - {"default"}
        assert named == set(known.latencies)
    diarizer = load_checkpoint(output)
    assert diarizer.grid.frame_shift == known.frame_shift
    assert torch.equal(answer(diarizer), answer(load_checkpoint(local)))
