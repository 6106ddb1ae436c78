"""recipes/set_labelling: what its sessions hold, seen in what was written."""

import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from scripts import load_script

from diarize.activity import from_turns
from diarize.config import load_config
from diarize.data import SessionDataset
from diarize.formats.rttm import read_rttm
from diarize.frames import FrameGrid
from diarize.manifest import read_manifest
from diarize.model import Diarizer
from diarize.module import TrainingConfig

RECIPE = Path(__file__).parents[1] / "recipes" / "set_labelling"
GRID = FrameGrid(10, 1)
SIZES = ("--sessions", 200, "--dev", 30, "--test", 30)


def script(name: str) -> ModuleType:
    """A script as a module."""
    return load_script(RECIPE / f"{name}.py")


def run(name: str, *arguments: object, module: ModuleType | None = None) -> int:
    """The exit status of a script."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        status: int = (module or script(name)).main()
        return status


def made(folder: Path, kind: str, *arguments: object) -> Path:
    assert run("prepare", kind, folder / kind, *(arguments or SIZES)) == 0
    return folder / kind


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("set_labelling"), "synthetic")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("set_labelling"), "digits")


@pytest.fixture(params=["synthetic", "digits"])
def data(request: pytest.FixtureRequest) -> Path:
    folder: Path = request.getfixturevalue(request.param)
    return folder


def sessions(data: Path, split: str) -> list[tuple[dict[str, Any], np.ndarray, np.ndarray, list]]:
    """Line, frames (frame, dim), activity (frame, class) and classes of each session."""
    lines = [json.loads(line) for line in (data / f"{split}.jsonl").read_text().splitlines()]
    array = np.load(data / "features" / f"{split}.npy")
    references = read_rttm(data / "rttm" / f"{split}.rttm")
    found = []
    for line in lines:
        begin = GRID.frame_at(line["offset"])
        frames = array[begin : begin + GRID.frame_at(line["duration"])].astype(np.float32)
        turns = references[line["session_id"]]
        truth = from_turns(turns, GRID, len(frames), line["num_speakers"], line["offset"])
        assert not truth.dropped
        found.append((line, frames, truth.matrix >= 0.5, truth.speakers))
    assert sum(len(frames) for _, frames, _, _ in found) == len(array)
    return found


def splits(data: Path) -> list[str]:
    return sorted(path.stem for path in data.glob("*.jsonl"))


def test_the_shell_can_read_the_recipe() -> None:
    subprocess.run(["bash", "-n", RECIPE / "run.sh"], check=True)


def test_a_seed_makes_the_same_twice_and_another_does_not(data: Path, tmp_path: Path) -> None:
    again = made(tmp_path, data.name)
    other = made(tmp_path / "other", data.name, *SIZES, "--seed", 1)
    files = [path.relative_to(data) for path in data.rglob("*.*")]
    assert len(files) == 3 * len(splits(data)) + 2
    assert all((data / name).read_bytes() == (again / name).read_bytes() for name in files)
    arrays = [np.load(folder / "features" / "train.npy")[:100] for folder in (data, other)]
    assert not np.array_equal(*arrays)


def test_fewer_sessions_are_the_first_of_more(data: Path, tmp_path: Path) -> None:
    fewer = made(tmp_path, data.name, "--sessions", 20, "--dev", 3, "--test", 3)
    lines = (fewer / "train.jsonl").read_text()
    assert (data / "train.jsonl").read_text().startswith(lines)
    some, more = (np.load(folder / "features" / "train.npy") for folder in (fewer, data))
    assert np.array_equal(some, more[: len(some)])


def test_turns_are_those_of_the_frames(data: Path) -> None:
    prepare = script("prepare")
    source = (prepare.Synthetic if data.name == "synthetic" else prepare.Digits)(0)
    for number, split in enumerate(source.splits):
        for index, (_, frames, activity, speakers) in enumerate(sessions(data, split)[:10]):
            rng = np.random.default_rng([0, 100 + number, index])
            drawn, truth, names = prepare.session(source, split, rng)
            assert np.array_equal(drawn.astype(np.float16), frames)
            assert np.array_equal(truth[:, [names.index(name) for name in speakers]], activity)


def test_every_class_of_a_session_appears(data: Path) -> None:
    most = {"synthetic": 4, "digits": 3}[data.name]
    for split in splits(data):
        counts = set()
        for line, frames, activity, speakers in sessions(data, split):
            assert 100 <= len(frames) <= 150
            assert activity.any(axis=0).all() and len(speakers) == line["num_speakers"]
            counts.add(len(speakers))
        assert counts == set(range(1, most + 1))


def test_null_and_overlap_have_the_shares_that_are_told(data: Path) -> None:
    counts = np.concatenate([activity.sum(axis=1) for _, _, activity, _ in sessions(data, "train")])
    assert 0.1 < np.mean(counts == 0) < 0.2
    assert 0.1 < np.mean(counts[counts > 0] > 1) < 0.2


def test_classes_of_the_tests_are_not_those_of_training(data: Path) -> None:
    shown = {s: {n for *_, names in sessions(data, s) for n in names} for s in splits(data)}
    for split in set(shown) - {"train"}:
        assert shown[split].isdisjoint(shown["train"]) == (split != "test_seen")


def test_points_of_one_pool_are_not_in_another(synthetic: Path) -> None:
    known = np.load(synthetic / "classes.npz")
    names, points = known["names"], known["prototypes"]
    pools = np.array([name.split("_")[0] for name in names])
    products, squares = points @ points.T, np.square(points).sum(axis=1)
    distance = np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0.0))
    assert distance[pools[:, None] != pools[None]].min() > 1.0
    # What the frames show of a class is nearest to its own point, of all pools.
    seen = []
    for split in splits(synthetic):
        for _, frames, activity, speakers in sessions(synthetic, split):
            for column, name in enumerate(speakers):
                alone = activity[:, column] & (activity.sum(axis=1) == 1)
                if alone.sum() >= 10:
                    mean = frames[alone].mean(axis=0)
                    seen.append(names[np.linalg.norm(points - mean, axis=1).argmin()] == name)
    assert len(seen) > 300 and np.mean(seen) > 0.99


def test_images_and_digits_of_one_split_are_not_in_another(digits: Path) -> None:
    from sklearn.datasets import load_digits

    written, values = load_digits(return_X_y=True)
    written = (written / 16).astype(np.float32)
    turns = {"up": 0, "left": 1, "down": 2, "right": 3}
    images: dict[str, set[int]] = {}
    for split in splits(digits):
        images[split] = set()
        for _, frames, activity, speakers in sessions(digits, split)[:60]:
            for column, name in enumerate(speakers):
                digit, turned, *changes = name.split("_")
                shown = frames[activity[:, column] & (activity.sum(axis=1) == 1)].reshape(-1, 8, 8)
                # Back to how it was written.
                shown = np.rot90(shown, -turns[turned], axes=(1, 2))
                shown = shown[:, :, ::-1] if "mirrored" in changes else shown
                shown = -shown if "dark" in changes else shown
                distance = (written**2).sum(axis=1) - 2 * shown.reshape(-1, 64) @ written.T
                nearest, second = np.partition(distance, 1, axis=1)[:, :2].T
                sure = distance.argmin(axis=1)[second - nearest > 1.0]
                assert (values[sure] == int(digit)).all()
                images[split] |= set(sure.tolist())
    assert all(len(found) > 50 for found in images.values())
    for one, other in combinations(images, 2):
        if {one, other} != {"test_unseen", "test_turned"}:
            assert images[one].isdisjoint(images[other])
    assert {int(values[i]) for i in images["train"] | images["dev"]} == set(range(6))
    assert {int(values[i]) for i in images["test_turned"]} == set(range(6, 10))


def test_who_knows_the_classes_errs_little(data: Path, capsys: pytest.CaptureFixture) -> None:
    assert run("baselines", data / "test_unseen.jsonl") == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    der = {row[1].rstrip(":"): float(row[row.index("DER") + 1]) for row in rows}
    assert 0 < der["oracle"] < {"synthetic": 4, "digits": 15}[data.name]
    assert der["one"] > 45 and der["energy"] > 30


def test_what_is_there_is_left_and_never_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    few = ("--sessions", 2, "--dev", 2, "--test", 2)
    folder = made(tmp_path, "synthetic", *few)
    stamp = (folder / "train.jsonl").stat().st_mtime_ns
    assert run("prepare", "synthetic", folder, *few) == 0
    assert run("prepare", "synthetic", folder, *few, "--seed", 1) == 1
    assert "'seed': 0" in capsys.readouterr().err
    assert (folder / "train.jsonl").stat().st_mtime_ns == stamp


def test_what_fails_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    def full(*arguments: object) -> None:
        raise OSError(28, "No space left on device", "train.rttm")

    prepare = script("prepare")
    prepare.write_features = full  # type: ignore[attr-defined]
    assert run("prepare", "synthetic", tmp_path / "data", "--sessions", 2, module=prepare) == 1
    assert "train.rttm: No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_settings_build_a_small_model() -> None:
    config = load_config(TrainingConfig, [RECIPE / "train.yaml"], ["data.sessions=x"])
    diarizer = Diarizer(config.diarizer)
    assert 0.1e6 < sum(p.numel() for p in diarizer.parameters()) < 0.3e6
    samples = torch.tensor([100, 80]) * diarizer.grid.hop
    logits, num_frames = diarizer(torch.zeros(2, 100, 32), samples)
    assert logits.shape == (2, 100, 4) and num_frames.tolist() == [100, 80]


def test_the_package_reads_the_manifests(data: Path) -> None:
    dataset = SessionDataset(read_manifest(data / "dev.jsonl"), None)
    for example, (line, frames, _, speakers) in zip(dataset, sessions(data, "dev"), strict=True):
        assert example.session_id == line["session_id"]
        assert np.array_equal(example.signal, frames)
        assert {turn.speaker for turn in example.turns} == set(speakers)
