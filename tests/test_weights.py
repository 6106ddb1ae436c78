"""The packaged model: small, with its card, and able to tell voices apart."""

from pathlib import Path

import pytest

from diarize.checkpoint import packaged_models
from diarize.inference import InferenceConfig
from diarize.manifest import read_manifest, reference_turns
from diarize.model import Diarizer
from diarize.score import score


@pytest.fixture(scope="module")
def weights(root: Path) -> Path:
    return root / "diarize" / "weights"


@pytest.fixture(scope="module")
def diarizer() -> Diarizer:
    return Diarizer.from_pretrained("default")


def test_all_that_is_packaged_fits_16_mebibytes(weights: Path) -> None:
    files = [path for path in weights.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 16 * 2**20


def test_each_model_has_a_card(weights: Path) -> None:
    assert "default" in packaged_models()
    for name in packaged_models():
        files = {path.name for path in (weights / name).iterdir()}
        assert files == {"README.md", "config.yaml", "model.safetensors"}
        card = (weights / name / "README.md").read_text(encoding="utf-8")
        assert card.startswith("# ") and name in card.splitlines()[0]
        for told in ("data", "seed", "commit", "Apache-2.0"):
            assert told in card, told


def test_it_says_how_it_wants_to_be_used(diarizer: Diarizer) -> None:
    config = InferenceConfig.of(diarizer)
    assert config.window == diarizer.inference["window"] > 1.0
    assert diarizer.postprocess["onset"] == config.postprocess.onset


def test_it_hears_several_people_in_the_sample_conversation(root: Path, diarizer: Diarizer) -> None:
    (session,) = read_manifest(root / "recipes" / "demo" / "manifest.jsonl")
    answer = diarizer(session.audio)
    assert 2 <= len({turn.speaker for turn in answer}) <= 6
    assert score(reference_turns(session), answer).der < 0.8
