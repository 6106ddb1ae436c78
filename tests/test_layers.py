"""Who may import whom: the table of docs/architecture.md, held against the code."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "diarize"

LEVEL_0: set[str] = set()
LEVEL_1 = {"numpy", "omegaconf", "scipy", "soundfile", "soxr", "tqdm"}
LEVEL_2 = LEVEL_1 | {"torch", "torchaudio"}
LEVEL_3 = LEVEL_2 | {"safetensors"}

# A module imports from rows above its own, and from packages of its row. Two rows may stand on one
# level: the lower one serves the other.
ROWS = [
    (0, "environment errors frames memory turns", LEVEL_0),
    (0, "files", LEVEL_0),
    (1, "config progress", LEVEL_1),
    (1, "activity audio features formats hub postprocess turntaking", LEVEL_1),
    (1, "capture experiment gap latency liveturns recording score speech stitching", LEVEL_1),
    (1, "exported manifest picture stream tune", LEVEL_1),
    (1, "benchmark calibration exported_stream librispeech rooms view", LEVEL_1),
    (2, "augment dropout graph muon", LEVEL_2),
    (2, "activation attention", LEVEL_2),
    (2, "cache corpus encoder.transformer frontend.log_mel local_attention losses voices", LEVEL_2),
    (2, "frontend.relative_attention", LEVEL_2),
    (2, "recompute slots", LEVEL_2),
    (2, "encoder frontend optimizer simulate", LEVEL_2),
    (2, "masked", LEVEL_2),
    (3, "data model nemo", LEVEL_3),
    (3, "nemotron", LEVEL_3),
    (3, "checkpoint", LEVEL_3),
    (4, "prior step streaming", LEVEL_3),
    (4, "inference rehearsal", LEVEL_3),
    (4, "export", LEVEL_3),
    (4, "sharding", LEVEL_3 | {"pytorch_lightning"}),
    (4, "averaging loaders saving steplog", LEVEL_3 | {"pytorch_lightning"}),
    (4, "trainer", LEVEL_3 | {"lightning_fabric", "pytorch_lightning"}),
    (4, "module", LEVEL_3 | {"pytorch_lightning", "torchmetrics"}),
    (4, "training", LEVEL_3 | {"pytorch_lightning"}),
    (5, "cli", LEVEL_0),
    (5, "__main__", LEVEL_0),
]

# Packages that are imported inside the one function that needs them.
INSIDE = {
    "calibration": {"matplotlib"},
    "exported": {"onnxruntime"},
    "export": {"onnxruntime"},
    "gap": {"matplotlib"},
    "rooms": {"pyroomacoustics"},
    "picture": {"matplotlib"},
    "hub": {"huggingface_hub"},
    "capture": {"sounddevice"},
    "frontend.ssl": {"safetensors"},
    "manifest": {"lhotse", "pyannote"},
    "data": {"lhotse"},
}

# A model that can be called on a file, and loaded by name, reaches up when it is asked to.
UPWARD = {("model", "checkpoint"), ("model", "inference")}

# Folders of which each file is a noun of its own; elsewhere a folder is one noun in several files.
APART = {"encoder", "formats", "frontend"}


class Import(NamedTuple):
    """One import statement: by which file, of what, and whether a function runs it."""

    path: Path
    line: int
    name: str
    inside: bool

    def __str__(self) -> str:
        return f"{self.path.relative_to(PACKAGE.parent)}:{self.line} imports {self.name}"


def unit(module: str) -> str:
    """The noun that a module of the package belongs to: ``formats.rttm``, ``manifest``."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] in APART else parts[0]


def row_of(name: str) -> int:
    """Row of a unit: its own, or that of its folder."""
    for known in (name, name.split(".")[0]):
        for number, (_, units, _) in enumerate(ROWS):
            if known in units.split():
                return number
    raise LookupError(f"{name} stands in no row: add it to ROWS and to docs/architecture.md")


def imports() -> list[Import]:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        ran_at_import = {id(node) for node in tree.body}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: relative imports hide the level"
                names = [str(node.module)]
                if node.module == "diarize":
                    names = [f"diarize.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            found += [Import(path, node.lineno, n, id(node) not in ran_at_import) for n in names]
    return found


IMPORTS = imports()


def importer(found: Import) -> str:
    """Unit that an import stands in; "" for the package's own ``__init__``."""
    parts = found.path.relative_to(PACKAGE).with_suffix("").parts
    return unit(".".join(part for part in parts if part != "__init__")) if parts else ""


def test_every_module_stands_in_one_row() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    modules = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__"}
    listed = [name for _, units, _ in ROWS for name in units.split()]
    assert len(listed) == len(set(listed))
    missing = {name for name in listed if not (PACKAGE / name.replace(".", "/")).is_dir()}
    files = {f"{name.replace('.', '/')}.py" for name in missing}
    assert {file for file in files if not (PACKAGE / file).exists()} == set()
    assert (modules | folders) <= set(listed)


def test_modules_import_from_rows_above() -> None:
    wrong = []
    for found in IMPORTS:
        package, _, rest = found.name.partition(".")
        if package != "diarize" or not importer(found):
            continue
        by, of = importer(found), unit(rest) if rest else ""
        # Names of the package itself (its version) are read by the command line alone.
        allowed = by == of or (by, of) in UPWARD and found.inside
        if not of or of == "__version__":
            allowed = by == "cli"
        if not allowed and (of == "" or row_of(of) >= row_of(by)):
            wrong.append(str(found))
    assert wrong == []


def test_the_package_itself_exports_light_names_only() -> None:
    own = [i for i in IMPORTS if i.path == PACKAGE / "__init__.py"]
    assert {ROWS[row_of(unit(i.name.removeprefix("diarize.")))][0] for i in own} <= {0, 1}


def test_levels_bound_what_others_may_be_imported() -> None:
    wrong = []
    for found in IMPORTS:
        package = found.name.split(".")[0]
        if package in sys.stdlib_module_names or package == "diarize":
            continue
        by = importer(found)
        level, _, allowed = ROWS[row_of(by)]
        if level == 5:
            fine = found.inside
        else:
            fine = package in allowed or (found.inside and package in INSIDE.get(by, set()))
        if not fine:
            wrong.append(str(found))
    assert wrong == []


def test_the_command_line_imports_inside_its_commands() -> None:
    light = {0} | {row_of(name) for name in ("files",)}
    at_start = [i for i in IMPORTS if importer(i) == "cli" and not i.inside]
    heavy = [
        str(found)
        for found in at_start
        if found.name.startswith("diarize.")
        and unit(found.name.removeprefix("diarize.")) not in ("cli", "__version__")
        and row_of(unit(found.name.removeprefix("diarize."))) not in light
    ]
    assert heavy == []


def test_the_architecture_page_has_this_table() -> None:
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| (\d) \| `([\w.]+)` \|", page, re.MULTILINE)
    table = [(str(level), name) for level, units, _ in ROWS for name in units.split()]
    assert listed == table


def test_levels_0_and_1_are_typed_strictly() -> None:
    pyproject = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    strict, *_ = pyproject["tool"]["mypy"]["overrides"]
    names = {name.removeprefix("diarize.").removesuffix(".*") for name in strict["module"]}
    wanted = {name for level, units, _ in ROWS if level <= 1 for name in units.split()}
    assert names == wanted | {"diarize"}


@pytest.mark.parametrize("verb", [["score", "--help"], ["check", "--help"], ["infer", "--help"]])
def test_help_is_given_without_torch(verb: list[str]) -> None:
    assert "torch" not in modules_after(f"from diarize.cli import main; main({verb!r})")


def test_levels_0_and_1_are_free_of_torch() -> None:
    modules = [name for level, units, _ in ROWS if level <= 1 for name in units.split()]
    loaded = modules_after("; ".join(f"import diarize.{name}" for name in modules))
    assert {"diarize.score", "diarize.manifest"} <= loaded
    assert loaded & {"torch", "pytorch_lightning", "matplotlib", "librosa", "pandas"} == set()


def test_what_runs_graphs_is_free_of_torch() -> None:
    loaded = modules_after("import diarize.inference; import diarize.exported_stream")
    assert "diarize.exported" in loaded
    assert loaded & {"torch", "onnxruntime"} == set()


def modules_after(statements: str) -> set[str]:
    """Modules that a fresh interpreter holds after these statements."""
    script = f"""
import sys
try:
    {statements}
except SystemExit as end:
    assert end.code == 0
finally:
    print(*sys.modules, file=sys.stderr)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=PACKAGE.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())
