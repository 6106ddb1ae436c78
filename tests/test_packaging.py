"""What setup.cfg ships: the wheel's files, the size of the base install, the entry point."""

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import diarize

# torch's own CUDA wheels: as many as a version of torch has, and none on other machines.
ACCELERATOR_WHEELS = ("nvidia-", "cuda-", "triton")


@pytest.fixture(scope="module")
def setup_cfg(root: Path) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(root / "setup.cfg", encoding="utf-8")
    return parser


@pytest.fixture(scope="module")
def base_requirements(setup_cfg: configparser.ConfigParser) -> list[Requirement]:
    lines = setup_cfg["options"]["install_requires"].split("\n")
    return [Requirement(line) for line in lines if line]


def test_pyproject_holds_tools_only(root: Path) -> None:
    pyproject = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    assert sorted(pyproject) == ["build-system", "tool"]


def test_setup_cfg_leaves_tool_settings_to_pyproject(setup_cfg: configparser.ConfigParser) -> None:
    assert set(setup_cfg.sections()) == {
        "metadata",
        "options",
        "options.package_data",
        "options.extras_require",
        "options.entry_points",
    }


def test_version_is_read_from_the_package(setup_cfg: configparser.ConfigParser) -> None:
    assert setup_cfg["metadata"]["version"] == "attr: diarize.__version__"
    assert re.fullmatch(r"\d+\.\d+\.\d+", diarize.__version__)


def test_every_folder_of_code_is_a_listed_package(
    root: Path, setup_cfg: configparser.ConfigParser
) -> None:
    folders = {path.parent for path in (root / "diarize").rglob("*.py")}
    packages = {".".join(folder.relative_to(root).parts) for folder in folders}
    assert packages | {"diarize.conf"} == set(setup_cfg["options"]["packages"].split())


def test_all_takes_every_other_extra(setup_cfg: configparser.ConfigParser) -> None:
    extras = setup_cfg["options.extras_require"]
    (everything,) = extras["all"].split()
    assert Requirement(everything).extras == set(extras) - {"all"}


def test_training_brings_the_scorer_that_validation_asks(
    setup_cfg: configparser.ConfigParser,
) -> None:
    extras = setup_cfg["options.extras_require"]
    train = [Requirement(line) for line in extras["train"].split("\n") if line]
    wanted = {extra for need in train if need.name == "diarize" for extra in need.extras}
    assert "score" in wanted and "pyannote.metrics" in extras["score"]


def test_base_install_stays_at_30_packages(base_requirements: list[Requirement]) -> None:
    packages = sorted(
        name for name in closure(base_requirements) if not name.startswith(ACCELERATOR_WHEELS)
    )
    assert len(packages) + 1 <= 30, f"diarize and {', '.join(packages)}"


def closure(requirements: list[Requirement]) -> set[str]:
    """Names of all installed packages that the requirements lead to."""
    found: set[str] = set()
    waiting = [(requirement, "") for requirement in requirements]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        found.add(name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                needs = metadata.requires(requirement.name) or []
                waiting.extend((Requirement(need), wanted) for need in needs)
    return found


def test_diarizing_a_file_imports_only_the_base_install(
    root: Path, base_requirements: list[Requirement]
) -> None:
    waiting, seen, outside = ["diarize.cli", "diarize.inference"], set(), {}
    while waiting:
        module = waiting.pop()
        path = root.joinpath(*module.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if module in seen or not path.exists():
            continue
        seen.add(module)
        for name in top_level_imports(path):
            if name.split(".")[0] == "diarize":
                waiting.append(name)
            elif name.split(".")[0] not in sys.stdlib_module_names:
                outside.setdefault(name.split(".")[0], module)
    assert "diarize.model" in seen
    assert set(outside) <= {requirement.name for requirement in base_requirements}, outside


def top_level_imports(path: Path) -> list[str]:
    """Modules that a file imports when it is itself imported."""
    names = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


@pytest.mark.slow
def test_wheel_holds_code_weights_and_settings(root: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(root / name, source)
    for name in ("diarize", "conf"):
        shutil.copytree(root / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    # Built by the setuptools at hand, since an isolated build would ask the network for one.
    build = "from setuptools import build_meta; print(build_meta.build_wheel('..'))"
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=source, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        entry_points = wheel.read(
            next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        ).decode()
        wheel.extractall(tmp_path / "installed")
    wanted = {str(path.relative_to(source)) for path in (source / "diarize").rglob("*.py")}
    wanted |= {f"diarize/{path.relative_to(source)}" for path in source.glob("conf/**/*.yaml")}
    weights = (source / "diarize" / "weights").rglob("*")
    wanted |= {str(path.relative_to(source)) for path in weights if path.is_file()}
    assert held == wanted | {"diarize/py.typed"}
    assert "diarize = diarize.cli:main" in entry_points
    # Thresholds are found by name where the checkout is not.
    use = "import diarize.postprocess as p; p.load_postprocess('v1_callhome'); print(p)"
    ran = subprocess.run(
        [sys.executable, "-c", use], cwd=tmp_path / "installed", capture_output=True, text=True
    )
    assert "installed/diarize/postprocess.py" in ran.stdout, ran.stderr
