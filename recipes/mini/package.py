"""A trained experiment as a packaged model: weights, settings and facts of its making.

    python recipes/mini/package.py exp/mini/long diarize/weights/default window=160 \
        postprocess.onset=0.6 postprocess.offset=0.6

``key=value`` sets how the model is best run, keys of ``InferenceConfig``; the values were chosen on
development sessions (``diarize tune``). ``--prior-of MANIFEST`` makes a model stream that did not
note in training what it heard: it begins with what these sessions sound like. The facts are those
of every experiment that the last one began from. The prose of the card, ``README.md``, is written
by hand beside it.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from diarize.checkpoint import build, read_checkpoint, save_checkpoint
from diarize.config import load_config, to_dict
from diarize.errors import DiarizeError
from diarize.inference import InferenceConfig
from diarize.manifest import read_manifest
from diarize.prior import with_prior

LARGEST = 16 * 2**20
"""Bytes of a packaged model."""


def main() -> int:
    """Read the experiment, check the settings, write the folder, tell its size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiment", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prior-of", metavar="MANIFEST", type=Path)
    parser.add_argument("settings", metavar="key=value", nargs="*")
    args = parser.parse_intermixed_args()
    try:
        chosen = to_dict(load_config(InferenceConfig, overrides=args.settings))
        checkpoint = read_checkpoint(args.experiment)
        if args.prior_of is not None:
            checkpoint = with_prior(checkpoint, read_manifest(args.prior_of))
        diarizer = build(checkpoint)
        diarizer.postprocess = chosen.pop("postprocess")
        diarizer.inference = chosen
        card: dict[str, Any] = {
            "parameters": sum(p.numel() for p in diarizer.parameters()),
            "steps": steps(args.experiment),
        }
        if args.prior_of is not None:
            card["prior_of"] = args.prior_of.name
    except (DiarizeError, OSError) as error:
        print(f"package.py: {error}", file=sys.stderr)
        return 1
    save_checkpoint(diarizer, args.folder, card=card)
    size = sum(path.stat().st_size for path in args.folder.iterdir())
    print(f"{args.folder}: {size / 2**20:.1f} MiB")
    return 0 if size <= LARGEST else 1


def steps(experiment: Path) -> list[dict[str, Any]]:
    """What each experiment on the way to this one ran on, the first one first."""
    config = OmegaConf.load(experiment / "config.yaml")
    runs = (experiment / "environment.jsonl").read_text(encoding="utf-8").splitlines()
    kept = ("commit", "changed_files", "machine", "accelerator", "packages")
    step = {"name": experiment.name, "seed": config.seed, "steps": config.trainer.max_steps}
    step["runs"] = [{key: json.loads(run)[key] for key in kept} for run in runs]
    if config.init is None:
        return [step]
    if (Path(config.init) / "environment.jsonl").exists():
        return [*steps(Path(config.init)), step]
    return [{"name": config.init} | read_checkpoint(config.init).card, step]


if __name__ == "__main__":
    sys.exit(main())
