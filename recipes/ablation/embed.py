"""Simulated conversations as sequences of embeddings: what the ablation's encoders hear.

    python recipes/ablation/embed.py MODEL CORPUS ROOMS OUTPUT --speakers 2

The front end of MODEL makes them, and does not learn any more. CORPUS is as recipes/mini/prepare.py
describes it, ROOMS what that wrote.
Sessions last 30 s, half of them independent speakers, half conversations; one to ``--speakers``
talk, most often that many. Half have noise at 5 to 25 dB, half are in a room. Embeddings of two
frames of 80 ms are averaged.

OUTPUT holds a manifest for each split, with ``features/SPLIT.npy`` and ``rttm/SPLIT.rttm``.
``train`` and, in other sessions, ``test_seen`` have training speakers, ``dev`` and ``test_unseen``
those of the corpus' lists. ``test_unseen`` has noises and rooms of its own as well.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from diarize.checkpoint import load_checkpoint
from diarize.config import load_config
from diarize.errors import ConfigError, DiarizeError
from diarize.files import write_text
from diarize.manifest import write_features
from diarize.model import Diarizer
from diarize.progress import progress
from diarize.simulate import SimulationConfig, Simulator
from diarize.turns import Turn

POOL = 2
"""Frames of the front end that make one."""
BATCH = 4
SEEDS = {"train": 0, "dev": 1, "test_seen": 2, "test_unseen": 3}
WEIGHTS = {2: [1.0, 4.0], 4: [1.0, 2.0, 3.0, 6.0]}
"""How often one, two, ... speakers talk."""


def main() -> int:
    """Write the splits that are not there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    for name in ("corpus", "rooms", "output"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--speakers", type=int, choices=sorted(WEIGHTS), default=2)
    parser.add_argument("--train", type=int, default=4096, metavar="N", help="training sessions")
    parser.add_argument("--others", type=int, default=256, metavar="N", help="of each other split")
    args = parser.parse_args()
    try:
        open_folder(args)
        diarizer = load_checkpoint(args.model).eval()
        settings = {"num_speakers": WEIGHTS[args.speakers], "noise": 0.5, "reverberation": 0.5}
        config = load_config(SimulationConfig, values=settings)
        for split, seed in SEEDS.items():
            if (args.output / f"{split}.jsonl").exists():
                continue
            speakers = "train" if split in ("train", "test_seen") else split.split("_")[0]
            others = "test" if split == "test_unseen" else "train"
            simulator = Simulator.from_manifests(
                config,
                args.corpus / f"{speakers}.jsonl",
                args.corpus / f"noise_{others}.jsonl",
                args.rooms / f"rir_{others}.jsonl",
                seed,
            )
            count = args.train if split == "train" else args.others
            shift = POOL * diarizer.grid.frame_shift
            sessions = embedded(diarizer, simulator, count, split)
            write_features(args.output, split, sessions, shift)
    except DiarizeError as error:
        print(f"embed.py: {error}", file=sys.stderr)
        return 1
    return 0


def open_folder(args: argparse.Namespace) -> None:
    """Note what a folder is made from, or see that it is the same."""
    asked = {name: str(value) for name, value in vars(args).items() if name != "output"}
    made = args.output / "settings.json"
    there = json.loads(made.read_text(encoding="utf-8")) if made.exists() else None
    if there not in (None, asked):
        raise ConfigError(
            f"{args.output}: was made with {there}, but {asked} is asked for. Name another folder, "
            "or remove it."
        )
    args.output.mkdir(parents=True, exist_ok=True)
    write_text(made, json.dumps(asked) + "\n")


@torch.inference_mode()
def embedded(
    diarizer: Diarizer, simulator: Simulator, count: int, split: str
) -> Iterator[tuple[np.ndarray, list[Turn]]]:
    """Embeddings (frame, D) and turns of each session."""
    with progress(count, f"sessions of {split}", True) as advance:
        for first in range(0, count, BATCH):
            made = [simulator.session(index) for index in range(first, min(first + BATCH, count))]
            waveform = torch.from_numpy(np.stack([samples for samples, _ in made]))
            num_samples = torch.full((len(made),), waveform.shape[1])
            embedding, num_frames = diarizer.embed(waveform, num_samples)
            usable = int(num_frames[0]) // POOL * POOL
            pooled = embedding[:, :usable].unflatten(1, (-1, POOL)).mean(dim=2)
            for row, (_, turns) in zip(pooled.numpy(), made, strict=True):
                yield row.astype(np.float16), turns
                advance(1)


if __name__ == "__main__":
    sys.exit(main())
