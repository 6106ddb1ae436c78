"""recipes/ablation: that cells differ in what they name, and measure what they say."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scripts import load_script
from torch import Tensor

from diarize.checkpoint import save_checkpoint
from diarize.config import load_config
from diarize.features import read_features
from diarize.manifest import check_manifest, read_manifest, write_features
from diarize.model import Diarizer, Estimates
from diarize.module import TrainingConfig
from diarize.turns import Turn

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "ablation"


@pytest.fixture(autouse=True)
def beside_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts find one another, as they do when they are run."""
    monkeypatch.syspath_prepend(RECIPE)


def run(monkeypatch: pytest.MonkeyPatch, path: Path, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", [path.name, *map(str, arguments)])
    status: int = load_script(path).main()
    return status


@pytest.fixture
def ablate() -> ModuleType:
    return load_script(RECIPE / "ablate.py")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A few sessions of two classes."""
    generator = np.random.default_rng(0)

    def session() -> tuple[np.ndarray, list[Turn]]:
        rows = generator.normal(size=(40, 32)).astype(np.float16)
        return rows, [Turn(0.5, 2.0, "a"), Turn(1.5, 3.5, "b")]

    for split in ("train", "dev", "test_seen", "test_unseen"):
        write_features(tmp_path / "data" / "set", split, [session() for _ in range(4)], 0.1)
    return tmp_path / "data"


def test_the_shell_can_read_the_recipe() -> None:
    subprocess.run(["bash", "-n", RECIPE / "run.sh"], check=True)


def test_cells_are_equal_but_for_what_they_name(ablate: ModuleType) -> None:
    cells = ablate.cells(list(ablate.TASKS))
    assert len({cell.name for cell in cells}) == len(cells)
    counts: dict[str, dict[str, int]] = {}
    described: dict[str, set[str]] = {}
    for cell in cells:
        if (cell.size, cell.seed) != (1024, 0):
            continue
        files, settings = cell.settings
        config = load_config(TrainingConfig, files, settings)
        described.setdefault(cell.task, set()).add(str(config))
        with torch.device("meta"):
            size = sum(p.numel() for p in Diarizer(config.diarizer).parameters())
        counts.setdefault(cell.task, {})[cell.name] = size
    assert {task: len(each) for task, each in described.items()} == {
        task: len(sizes) for task, sizes in counts.items()
    }
    for sizes in counts.values():
        plain = sizes[next(name for name in sizes if "-plain-" in name)]
        assert all(abs(size / plain - 1) < 0.02 for size in sizes.values()), sizes


def test_cells_are_made_once_and_told(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    output, arguments = tmp_path / "out", ("--toy", "--tasks", "set", "--jobs", 1)
    assert run(monkeypatch, RECIPE / "ablate.py", data, output, *arguments) == 0
    lines = (output / "results.jsonl").read_text().splitlines()
    found = {cell["name"]: cell for cell in map(json.loads, lines)}
    assert sorted(found) == ["set-learned-hybrid-4-0", "set-plain-hybrid-4-0"]
    learned, plain = found.values()
    assert len(learned["gates"]) == 3 and plain["gates"] == []
    assert len(learned["dev"]["layers"]) == 4 and len(plain["dev"]["layers"]) == 1
    assert all(cell["steps"] == 2 and cell["train"]["sessions"] == 4 for cell in found.values())
    assert not list((output / "runs").iterdir())  # none of these keeps its checkpoint
    capsys.readouterr()
    assert run(monkeypatch, RECIPE / "ablate.py", data, output, *arguments, "--list") == 0
    assert capsys.readouterr().out.strip() == ""
    # The same cells as if they were of the grid, to be told and drawn.
    grid = [
        cell | {"size": 64, "name": name.replace("-4-", "-64-")} for name, cell in found.items()
    ]
    (output / "results.jsonl").write_text("".join(json.dumps(cell) + "\n" for cell in grid))
    assert run(monkeypatch, RECIPE / "report.py", output / "results.jsonl") == 0
    told = capsys.readouterr().out
    assert "**set, hybrid loss**" in told and "| 64 | learned |" in told
    assert run(monkeypatch, RECIPE / "draw.py", "results", output / "results.jsonl", output) == 0
    assert {p.name for p in output.glob("*.png")} == {"gap.png", "der.png", "layers.png"}


def test_pairs_are_counted_by_hand() -> None:
    def cell(encoder: str, seed: int, der: float, dev: float) -> dict[str, Any]:
        losses = {"train": 0.1, "dev": dev, "test_unseen": 0.0}
        found: dict[str, Any] = {
            split: {"permutation_invariant_loss": loss, "der": der, "arrival": 0.5}
            for split, loss in losses.items()
        }
        place = {"task": "set", "loss": "sort", "size": 64, "encoder": encoder, "seed": seed}
        return place | found

    report = load_script(RECIPE / "report.py")
    results = [cell("plain", 0, 30.0, 0.5), cell("plain", 1, 40.0, 0.5), cell("plain", 2, 9.0, 9.0)]
    results += [cell("learned", 0, 29.0, 0.6), cell("learned", 1, 43.0, 0.4)]
    # 1 better and 3 worse; seed 2 has no partner; the seeds do not agree.
    told = report.against_plain(results, "task")
    assert told[-2] == "| set | learned | 2 | 1 | 1 | +1.0 | +1.0 ± 2.0 | 0 of 1 |"
    assert report.by_loss(results)[-3].startswith("| set | 30.2 |")
    assert [line for line in told if "sinusoidal" in line] == []


def test_a_kept_cell_is_drawn(
    data: Path, tmp_path: Path, ablate: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ablate, "SIZES", (4,))  # the largest size keeps its checkpoints
    threads = torch.get_num_threads()
    brief = ["trainer.max_steps=1", "data.batch_size=1"]
    for encoder in ("learned", "plain"):
        ablate.make(ablate.Cell("set", encoder, "hybrid", 4, 0), data, tmp_path / "out", brief)
    torch.set_num_threads(threads)
    picture = tmp_path / "session.png"
    arguments = ("session", data, tmp_path / "out")
    cell = "set-learned-hybrid-4-0"
    assert run(monkeypatch, RECIPE / "draw.py", *arguments, cell, picture) == 0
    assert picture.stat().st_size > 10_000
    with pytest.raises(SystemExit, match="set-plain-hybrid-4-0 feeds nothing back"):
        run(monkeypatch, RECIPE / "draw.py", *arguments, "set-plain-hybrid-4-0", picture)


class Knowing(torch.nn.Module):
    """A model that was told the answer; some columns exchanged."""

    def __init__(self, like: Diarizer, say: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.grid, self.num_slots, self.hears = like.grid, like.num_slots, like.hears
        self.say, self.truth = say, torch.zeros(0)

    def embed(self, signal: Tensor, num_samples: Tensor) -> tuple[Tensor, Tensor]:
        return signal, num_samples

    def classify_layers(self, signal: Tensor, num_frames: Tensor) -> Estimates:
        return Estimates(self.say(self.truth), [-self.say(self.truth)], self.truth)


@pytest.mark.parametrize(
    ("order", "arrival"), [([0, 1, 2, 3], 1.0), ([1, 0, 2, 3], 0.0), ([0, 2, 1, 3], 0.5)]
)
def test_what_is_measured(
    order: list[int],
    arrival: float,
    data: Path,
    ablate: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files, settings = ablate.Cell("set", "plain", "hybrid", 4, 0).settings
    like = Diarizer(load_config(TrainingConfig, files, settings).diarizer)
    model = Knowing(like, lambda truth: (20 * truth - 10)[:, :, order])
    manifest = data / "set" / "dev.jsonl"
    (batch,) = ablate.batches(model, manifest)
    model.truth = batch.activity
    found = ablate.measure(model, manifest)
    assert (found["der"], found["count"], found["arrival"]) == (0.0, 1.0, arrival)
    assert found["permutation_invariant_loss"] < 1e-3
    assert (found["sort_loss"] < 1e-3) == (arrival == 1.0)
    assert found["layers"][1] == 0.0 and found["layers"][0] > 100.0
    # One second of one class is missed, of three and a half in all.
    missing = batch.activity.clone()
    missing[:, 5:15, 0] = 0.0
    model.say = lambda truth: 20 * missing - 10
    found = ablate.measure(model, manifest)
    assert found["der"] == pytest.approx(100 * 1.0 / 3.5, abs=0.01)
    assert found["miss"] == pytest.approx(found["der"]) and found["layers"][1] == pytest.approx(
        28.571
    )


def test_conversations_become_embeddings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    mini = ROOT / "recipes" / "mini"
    assert run(monkeypatch, mini / "toy.py", tmp_path / "corpus") == 0
    assert run(monkeypatch, mini / "prepare.py", tmp_path / "corpus", tmp_path / "rooms") == 0
    torch.manual_seed(0)
    diarizer = Diarizer(load_config(TrainingConfig, [ROOT / "conf" / "tiny.yaml"]).diarizer)
    voices = save_checkpoint(diarizer, tmp_path / "voices")
    made = tmp_path / "speech2"
    arguments = (voices, tmp_path / "corpus", tmp_path / "rooms", made, "--speakers", 2)
    counts = ("--train", 2, "--others", 1)
    assert run(monkeypatch, RECIPE / "embed.py", *arguments, *counts) == 0
    for split in ("train", "dev", "test_seen", "test_unseen"):
        assert check_manifest(made / f"{split}.jsonl") == []
    first, second = read_manifest(made / "train.jsonl")
    assert (first.frame_shift, second.offset) == (0.16, first.duration)
    rows = read_features(first.audio, 0, 187, 0.16)

    assert rows.shape == (187, 64) and rows.std() > 0.1
    before = (made / "features" / "train.npy").stat().st_mtime_ns
    assert run(monkeypatch, RECIPE / "embed.py", *arguments, *counts) == 0  # it is there
    assert (made / "features" / "train.npy").stat().st_mtime_ns == before
    assert run(monkeypatch, RECIPE / "embed.py", *arguments, "--train", 3) == 1  # it is another
    assert "Name another folder" in capsys.readouterr().err


def test_an_error_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    arguments = (tmp_path / "none", tmp_path, tmp_path, tmp_path / "out")
    assert run(monkeypatch, RECIPE / "embed.py", *arguments) == 1
    assert capsys.readouterr().err.startswith(f"embed.py: {tmp_path / 'none'}")
