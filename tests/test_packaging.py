"""What setup.cfg ships: the wheel's files, the size of the base install, the entry point."""

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from scripts import load_script

import diarize

INSTALL = load_script(Path(__file__).parents[1] / "recipes" / "bench" / "install.py")


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


def test_base_install_stays_at_30_packages(base_requirements: list[Requirement]) -> None:
    packages = sorted(
        name
        for name in INSTALL.closure(base_requirements)
        if not name.startswith(INSTALL.ACCELERATOR_WHEELS)
    )
    assert len(packages) + 1 <= 30, f"diarize and {', '.join(packages)}"


def test_diarizing_a_file_imports_only_the_base_install(
    root: Path, base_requirements: list[Requirement]
) -> None:
    waiting = ["diarize.cli", "diarize.inference", "diarize.checkpoint", "diarize.streaming"]
    seen, outside = set(), {}
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


def make(root: Path, *arguments: str) -> subprocess.CompletedProcess:
    # The suite may itself run below a make, whose settings are not meant here.
    own = {k: v for k, v in os.environ.items() if not k.startswith("MAKE") and k != "PYTHON"}
    return subprocess.run(["make", *arguments], cwd=root, env=own, capture_output=True, text=True)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is missing")
def test_make_refuses_an_interpreter_that_would_not_be_used(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\ntest $1 = -c && exit $VERDICT\necho Python 3.99.0\n")
    other.chmod(0o755)
    fresh = ("interpreter", f"VENV={tmp_path / 'none'}", f"PYTHON={other}")
    assert make(root, *fresh, "VERDICT=0").returncode == 0
    old = make(root, *fresh, "VERDICT=1")
    assert old.returncode == 2
    assert "/other is no Python 3.11 or newer. Name one, as in: make PYTHON=" in old.stderr
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").symlink_to(sys.executable)
    taken = make(root, "interpreter", f"VENV={tmp_path / 'venv'}", f"PYTHON={other}", "VERDICT=0")
    assert taken.returncode == 2
    assert "venv has Python 3." in taken.stderr
    assert "but PYTHON is Python 3.99.0. Remove " in taken.stderr


@pytest.mark.skipif(shutil.which("make") is None, reason="make is missing")
def test_ci_runs_what_contributors_run(root: Path) -> None:
    assert (root / ".ci" / "run").read_text().splitlines()[-1] == "make check"
    asked = make(root, "--dry-run", "--always-make", "check").stdout
    steps = ["ruff check", "mypy", "infer", "recipes/mini/run.sh --toy", "python -m pytest"]
    assert sorted(map(asked.index, steps)) == list(map(asked.index, steps))


@pytest.mark.skipif(shutil.which("make") is None, reason="make is missing")
@pytest.mark.parametrize(
    ("said", "status", "fails"),
    [
        ("3 passed, 1 skipped in 2s", 0, False),
        ("4 skipped in 2s", 0, True),
        ("1 failed, 3 passed in 2s", 1, True),
    ],
)
def test_parity_fails_where_everything_was_skipped(
    root: Path, tmp_path: Path, said: str, status: int, fails: bool
) -> None:
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text(f"#!/bin/sh\ntest $1 = -c && exit 0\necho '{said}'\nexit {status}\n")
    python.chmod(0o755)
    (tmp_path / ".installed").touch()
    done = make(root, "parity", f"VENV={tmp_path}")
    assert (done.stdout, done.returncode != 0) == (f"{said}\n", fails)
    assert ("every parity test was skipped" in done.stderr) == ("passed" not in said)


@pytest.fixture(scope="module")
def source(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as it is cloned."""
    place = tmp_path_factory.mktemp("clone") / "source"
    made = ("exp", "demo", "build", "dist")
    own = [p for p in root.iterdir() if p.name not in made and p.suffix != ".egg-info"]
    place.mkdir()
    shutil.copytree(root / ".ci", place / ".ci")
    for path in own:
        if path.is_file() and not path.name.startswith("."):
            shutil.copy(path, place)
        elif not path.name.startswith("."):
            corpora = ("data",) if path.name == "recipes" else ("node_modules",)
            ignored = shutil.ignore_patterns("__pycache__", "exp", *corpora)
            shutil.copytree(path, place / path.name, ignore=ignored)
    return place


def build(source: Path, kind: str, output: Path) -> Path:
    """What the setuptools at hand builds, since an isolated build would ask the network for one."""
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(output)!r}))"
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return output / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def unpacked(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive, unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    cloned = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    with tarfile.open(build(source, "sdist", folder)) as archive:
        archive.extractall(folder, filter="data")
    (unpacked,) = (path for path in folder.iterdir() if path.is_dir())
    held = {path.relative_to(unpacked) for path in unpacked.rglob("*") if path.is_file()}
    assert cloned - held == set()
    assert {path.name for path in held - cloned} <= {"PKG-INFO", "setup.cfg"} | {
        path.name for path in unpacked.glob("*.egg-info/*")
    }
    return unpacked


@pytest.mark.slow
def test_source_archive_holds_the_repository(unpacked: Path) -> None:
    assert (unpacked / "tests" / "tones.py").is_file()
    assert (unpacked / "recipes" / "demo" / "conversation.flac").is_file()
    assert os.access(unpacked / "recipes" / "mini" / "run.sh", os.X_OK)


@pytest.mark.slow
def test_wheel_of_the_source_archive_holds_code_weights_and_settings(
    source: Path, unpacked: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(build(unpacked, "wheel", tmp_path)) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
        entry_points = wheel.read(
            next(name for name in wheel.namelist() if name.endswith("entry_points.txt"))
        ).decode()
        wheel.extractall(tmp_path / "installed")
    wanted = {str(path.relative_to(source)) for path in (source / "diarize").rglob("*.py")}
    wanted |= {f"diarize/{path.relative_to(source)}" for path in source.glob("conf/**/*.*")}
    for folder in ("weights", "view/bundle"):
        data = (source / "diarize" / folder).rglob("*")
        wanted |= {str(path.relative_to(source)) for path in data if path.is_file()}
    assert held == wanted | {"diarize/py.typed"}
    assert "diarize = diarize.cli:main" in entry_points
    # Thresholds are found by name where the checkout is not.
    use = "import diarize.postprocess as p; p.load_postprocess('v1_callhome'); print(p)"
    ran = subprocess.run(
        [sys.executable, "-c", use], cwd=tmp_path / "installed", capture_output=True, text=True
    )
    assert "installed/diarize/postprocess.py" in ran.stdout, ran.stderr
