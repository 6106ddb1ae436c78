"""Figures of this code that no machine changes, held against those that were committed.

    .venv/bin/python recipes/bench/figures.py
    make baseline

The first tells what has changed, the second takes it into ``baseline.json``, to be committed with
the change that it came from; ``tests/test_figures.py`` fails until then. Nothing is timed.

- **work**: what a window, or a step of a stream whose cache and queue are full, asks for, as
  ``count.py`` counts it; of the packaged model with its own windows, of others in the published
  sizes. ``audio`` is the seconds that it brings the answer on by.
- **imports**: of the packages in `WATCHED`, those that a command has loaded when it ends.
- **packages**: all that ``pip install .`` installs, torch's wheels for CUDA aside.
- **shipped**: KiB of what a wheel holds, before it is compressed.
"""

import argparse
import configparser
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from count import Counted, Shapes
from install import ACCELERATOR_WHEELS, closure
from packaging.requirements import Requirement
from published import Cell, full_size

from diarize.errors import ConfigError
from diarize.files import write_text
from diarize.inference import InferenceConfig
from diarize.latency import parse_latency
from diarize.model import Diarizer
from diarize.streaming import refuse_windowed

ROOT = Path(__file__).parents[2]
BASELINE = Path(__file__).with_name("baseline.json")
DEMO = ROOT / "recipes" / "demo"

TOLERANCES = {
    "audio": 0.0,
    "GFLOP": 0.01,
    "MiB held": 0.05,  # versions of torch take operations apart in different ways
    "MiB moved": 0.05,
    "tensors": 0.05,
    "shipped": 0.2,
}
"""By what share a figure may differ from its baseline, up or down. Imports may not differ."""

PACKAGES = 2
"""That may come or go, in number: a release of torch takes or leaves some."""

PUBLISHED = ("v1/60", "v2/default", "v2/1.04s", "v2/0.32s", "nemotron3/30.4s", "nemotron3/1.04s")
"""Cells of ``published.py``."""

WATCHED = (
    "huggingface_hub lhotse librosa lightning_fabric matplotlib meeteval numba numpy omegaconf "
    "pandas pyannote pyroomacoustics pytorch_lightning safetensors scipy sounddevice soundfile "
    "soxr sympy tensorboard torch torch._dynamo torch._inductor torchaudio torchmetrics tqdm "
    "transformers yaml"
).split()

COMMANDS = {
    "import diarize": "import diarize",
    "diarize --help": "main(['--help'])",
    "diarize score": "main(['score', {reference!r}, {reference!r}])",
    "diarize infer --help": "main(['infer', '--help'])",
    "diarize infer": "main(['infer', {audio!r}, '--device', 'cpu'])",
}
"""What is run to see what it imports; ``main`` is the command line's."""

Figures = dict[str, Any]


def main() -> None:
    """Tell what differs, or write it down."""
    parser = argparse.ArgumentParser(description="Figures that no machine changes.")
    parser.add_argument("--write", action="store_true", help="make them the baseline")
    args = parser.parse_args()
    found = figures()
    if args.write:
        write_text(BASELINE, json.dumps(found, indent=1) + "\n")
        print(f"{BASELINE.relative_to(ROOT)} is written; commit it with what changed it.")
        return
    changes = differences(found, json.loads(BASELINE.read_text(encoding="utf-8")))
    print("\n".join(changes) or "Nothing differs from the baseline.")
    sys.exit(bool(changes))


def figures() -> Figures:
    """All of them."""
    return {"work": work(), "imports": imports(), "packages": packages(), "shipped": shipped()}


def differences(found: Figures, baseline: Figures, where: str = "") -> list[str]:
    """A line for each figure beyond its tolerance, and for each that one side lacks."""
    lines = []
    for key in {**baseline, **found}:
        place = f"{where}{key}"
        if key not in found or key not in baseline:
            lines.append(f"{place}: {'gone' if key in baseline else 'new'}")
            continue
        new, old = found[key], baseline[key]
        if isinstance(new, dict):
            lines += differences(new, old, f"{place}, ")
        elif isinstance(new, list):
            lines += _of_lists(place, new, old)
        else:
            tolerance = TOLERANCES["shipped" if where.startswith("shipped") else key]
            if not math.isclose(new, old, rel_tol=tolerance):
                lines.append(
                    f"{place}: {new:g}, but the baseline has {old:g} ({new / old - 1:+.1%})"
                )
    return lines


def _of_lists(place: str, new: list[str], old: list[str]) -> list[str]:
    """Names that came and went."""
    came, went = sorted(set(new) - set(old)), sorted(set(old) - set(new))
    if place == "packages" and abs(len(new) - len(old)) <= PACKAGES:
        return []
    told = {"came": came, "went": went}
    return [f"{place}: {', '.join(names)} {verb}" for verb, names in told.items() if names]


def work() -> Figures:
    """Of each model's windows and steps."""
    found: Figures = {}
    default = Diarizer.from_pretrained("default")
    inference = InferenceConfig.of(default)
    window = inference.window
    overlap = window / 3 if inference.overlap is None else inference.overlap
    shapes = Shapes(default)
    found["default, a window"] = _figure(window - overlap, shapes.at_once(window))
    if "1.04s" in inference.latencies and streams(default):
        config = parse_latency("1.04s", inference.latencies)
        assert config is not None
        chunk = config.chunk * default.front_end.grid.frame_shift
        found["default/1.04s"] = _figure(chunk, shapes.step(config))
    for name in PUBLISHED:
        cell = Cell.parse(name)
        with torch.device("meta"):
            shapes = Shapes(full_size(cell.model))
        if cell.model == "v1":
            counted = shapes.at_once(cell.length, cell.batch)
        else:
            counted = shapes.step(cell.latency, cell.batch)
        found[name] = _figure(cell.audio, counted)
    return found


def streams(diarizer: Diarizer) -> bool:
    """Whether a model hears audio step by step."""
    try:
        refuse_windowed(diarizer)
    except ConfigError:
        return False
    return True


def _figure(audio: float, counted: Counted) -> Figures:
    """Numbers that one can read."""
    return {
        "audio": round(audio, 2),
        "GFLOP": round(counted.operations / 1e9, 2),
        "MiB held": round(counted.bytes_held / 2**20, 2),
        "MiB moved": round(counted.bytes_moved / 2**20, 1),
        "tensors": counted.tensors,
    }


def imports() -> dict[str, list[str]]:
    """Packages that each command loads."""
    with tempfile.TemporaryDirectory() as folder:
        import soundfile

        audio = Path(folder) / "second.wav"
        waveform, rate = soundfile.read(DEMO / "conversation.flac", frames=16000, dtype="float32")
        soundfile.write(audio, waveform, rate)
        places = {"audio": str(audio), "reference": str(DEMO / "conversation.rttm")}
        return {name: _loaded(code.format(**places)) for name, code in COMMANDS.items()}


def _loaded(code: str) -> list[str]:
    """Watched packages that a Python has loaded after this."""
    begin = "" if code.startswith("import") else "from diarize.cli import main\n    "
    script = f"""
import sys
try:
    {begin}{code}
except SystemExit as end:
    assert not end.code, end.code
print(*(name for name in {WATCHED!r} if name in sys.modules), file=sys.stderr)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"figures: {code} failed:\n{done.stderr[-2000:]}")
    return done.stderr.splitlines()[-1].split()


def packages() -> list[str]:
    """Those of the base install."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    lines = settings["options"]["install_requires"].split("\n")
    found = closure([Requirement(line) for line in lines if line])
    return sorted(name for name in found if not name.startswith(ACCELERATOR_WHEELS))


def shipped() -> dict[str, float]:
    """KiB by kind; tests/test_packaging.py sees that a wheel holds just these."""
    kinds = {
        "code": ROOT.glob("diarize/**/*.py"),
        "weights": ROOT.glob("diarize/weights/**/*.*"),
        "page": ROOT.glob("diarize/view/bundle/**/*.*"),
        "settings": ROOT.glob("conf/**/*.*"),
    }
    return {
        kind: round(sum(p.stat().st_size for p in paths) / 1024) for kind, paths in kinds.items()
    }


if __name__ == "__main__":
    main()
