"""A trained experiment as the packaged default model: weights, settings and facts of its making.

    python recipes/mini/package.py exp/mini/long diarize/weights/default [key=value …]

``key=value`` sets how the model is best run, such as ``window=160``; the values were chosen on
development sessions. The prose of the card, ``README.md``, is written by hand beside it.
"""

import json
import sys
from pathlib import Path

from omegaconf import OmegaConf

from diarize.checkpoint import load_checkpoint, save_checkpoint


def main() -> int:
    """Read the experiment, write the folder, tell its size."""
    experiment, folder, settings = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:]
    diarizer = load_checkpoint(experiment)
    chosen = OmegaConf.to_container(OmegaConf.from_dotlist(settings))
    assert isinstance(chosen, dict)
    diarizer.inference |= {str(key): value for key, value in chosen.items()}
    first = (experiment / "environment.jsonl").read_text(encoding="utf-8").splitlines()[0]
    environment = json.loads(first)
    save_checkpoint(
        diarizer,
        folder,
        seed=OmegaConf.load(experiment / "config.yaml").seed,
        commit=environment["commit"],
        machine=environment["machine"],
        packages=environment["packages"],
        parameters=sum(p.numel() for p in diarizer.parameters()),
    )
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder}: {size / 2**20:.1f} MiB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
