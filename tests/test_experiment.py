"""An experiment's folder: never overwritten, resumed with its own settings alone."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from diarize.errors import ConfigError
from diarize.experiment import check_experiment, differences, open_experiment


@dataclass
class Inner:
    rate: float = 0.1
    sizes: list[int] = field(default_factory=lambda: [1, 2])


@dataclass
class Settings:
    seed: int = 0
    inner: Inner = field(default_factory=Inner)


def test_new_folder_holds_settings_and_environment(tmp_path: Path) -> None:
    folder = tmp_path / "exp" / "name"
    check_experiment(folder, Settings(), resume=False)
    assert not folder.exists()
    open_experiment(folder, Settings(seed=3), accelerator="1 x abacus")
    assert sorted(path.name for path in folder.iterdir()) == ["config.yaml", "environment.jsonl"]
    assert "seed: 3" in (folder / "config.yaml").read_text()
    facts = json.loads((folder / "environment.jsonl").read_text())
    assert facts["accelerator"] == "1 x abacus"
    assert facts["packages"]["torch"][0].isdigit()


def test_each_start_adds_a_line_and_leaves_the_settings(tmp_path: Path) -> None:
    open_experiment(tmp_path, Settings())
    stored = (tmp_path / "config.yaml").read_bytes()
    check_experiment(tmp_path, Settings(), resume=True)
    open_experiment(tmp_path, Settings())
    assert (tmp_path / "config.yaml").read_bytes() == stored
    lines = (tmp_path / "environment.jsonl").read_text().splitlines()
    assert len([json.loads(line) for line in lines]) == 2


def test_experiment_is_not_overwritten(tmp_path: Path) -> None:
    open_experiment(tmp_path, Settings())
    message = r"holds an experiment already, but --resume was not given\. Resume it, choose"
    with pytest.raises(ConfigError, match=message):
        check_experiment(tmp_path, Settings(), resume=False)


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", ["checkpoints", "photos", "thesis.tex"])
def test_what_is_no_experiment_is_left_alone(tmp_path: Path, name: str, resume: bool) -> None:
    (tmp_path / name).mkdir()
    with pytest.raises(ConfigError, match=rf"holds {name}, but no config\.yaml"):
        check_experiment(tmp_path, Settings(), resume)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "exp").touch()
    with pytest.raises(ConfigError, match=r"exp: is a file, but --output is a folder"):
        check_experiment(tmp_path / "exp", Settings(), resume=False)


@pytest.mark.parametrize("resume", [False, True])
def test_folder_with_a_log_may_be_used(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "train.log").touch()
    (tmp_path / ".config.yaml.0123.tmp").touch()  # of a process that was killed
    check_experiment(tmp_path, Settings(), resume)


def test_other_settings_are_not_resumed(tmp_path: Path) -> None:
    open_experiment(tmp_path, Settings())
    message = (
        r"config\.yaml: the experiment was begun with inner\.rate=0\.1, not 0\.2; "
        r"inner\.sizes=\[1, 2\], not \[1\]; seed=0, not 4\. Resume with the same settings"
    )
    with pytest.raises(ConfigError, match=message):
        check_experiment(tmp_path, Settings(4, Inner(0.2, [1])), resume=True)


def test_settings_that_change_nothing_may_differ(tmp_path: Path) -> None:
    open_experiment(tmp_path, Settings())
    changed = Settings(inner=Inner(0.2))
    check_experiment(tmp_path, changed, resume=True, free=["inner.rate"])
    with pytest.raises(ConfigError, match=r"begun with inner\.rate=0\.1, not 0\.2\. Resume"):
        check_experiment(tmp_path, changed, resume=True, free=["inner", "rate"])


def test_settings_newer_than_the_folder_have_their_defaults(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("inner: {rate: 0.1}\n")
    check_experiment(tmp_path, Settings(), resume=True)
    with pytest.raises(ConfigError, match=r"seed=0, not 1"):
        check_experiment(tmp_path, Settings(seed=1), resume=True)


def test_differences_name_the_dotted_key() -> None:
    old = {"a": {"b": 1, "c": [2]}, "d": None}
    assert differences(old, {"a": {"b": 1, "c": [3]}, "d": {"e": 0}}) == [
        "a.c=[2], not [3]",
        "d=None, not {'e': 0}",
    ]
    assert differences(old, old) == []
