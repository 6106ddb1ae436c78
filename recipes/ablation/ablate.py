r"""The cells of the ablation: each a model that `diarize train` makes of files in conf/, measured.

    python recipes/ablation/ablate.py DATA OUTPUT [--tasks speech2,...] [--jobs N] [--list]

DATA holds ``set/`` (recipes/set_labelling/prepare.py synthetic), ``speech2/`` and ``speech4/``
(embed.py). A cell is named TASK-ENCODER-LOSS-SIZE-SEED, as in ``set-learned-hybrid-1024-0``, and is

    diarize train conf/base.yaml conf/TASK.yaml conf/ENCODER.yaml conf/LOSS.yaml \
      data.sessions=(the first SIZE lines of DATA/TASK/train.jsonl) seed=SEED

What was measured is a line of OUTPUT/results.jsonl; a cell that has one is done. The first seed of
the largest size keeps its checkpoint in OUTPUT/runs, for draw.py. Each job takes one thread.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

TASKS = ("set", "speech2", "speech4")
ENCODERS = ("plain", "sinusoidal", "learned")
LOSSES = ("sort", "permutation_invariant", "hybrid")
SIZES = (64, 256, 1024, 4096)
SEEDS = (0, 1, 2)
SPLITS = ("train", "dev", "test_seen", "test_unseen")
MOST = 256
"""Sessions of a split that are measured."""

VARIANTS: Mapping[str, tuple[str, ...]] = {
    "supervised": ("supervised.yaml",),
    "set_transformer": ("set_transformer.yaml",),
    "plain+nowhere": ("plain.yaml", "diarizer.encoder.positions=none"),
    "plain+rotary": ("plain.yaml", "diarizer.encoder.positions=rotary"),
    "plain+post_norm": ("plain.yaml", "diarizer.encoder.pre_norm=false"),
    "plain+causal": ("plain.yaml", "diarizer.encoder.causal=true"),
    "learned+nowhere": ("learned.yaml", "diarizer.encoder.positions=none"),
    "learned+post_norm": ("learned.yaml", "diarizer.encoder.pre_norm=false"),
    "learned+causal": ("learned.yaml", "diarizer.encoder.causal=true"),
    "learned+closed": ("learned.yaml", "diarizer.encoder.gate=0.0"),
    "learned+shared": ("learned.yaml", "diarizer.encoder.heads=shared"),
    "learned+first": ("learned.yaml", "diarizer.encoder.estimate_layers=[1]"),
    "learned+last": ("learned.yaml", "diarizer.encoder.estimate_layers=[3]"),
    "learned+sharp": ("learned.yaml", "diarizer.encoder.temperature=0.3"),
    "learned+unsupervised": ("learned.yaml", "loss.layer_weights=[0]"),
    "learned+weak": ("learned.yaml", "loss.layer_weights=[0.2]"),
}
"""What is tried beside the grid, with the hybrid loss: a file of conf/, and settings."""


Found = dict[str, Any]
"""What was measured of a cell: a line of results.jsonl."""


@dataclass(frozen=True)
class Cell:
    """One model of the ablation."""

    task: str
    encoder: str
    loss: str
    size: int
    seed: int

    @property
    def name(self) -> str:
        """Of its files."""
        return f"{self.task}-{self.encoder}-{self.loss}-{self.size}-{self.seed}"

    @property
    def settings(self) -> tuple[list[Path], list[str]]:
        """Configs, and what is set beside them."""
        file, *settings = VARIANTS.get(self.encoder, (f"{self.encoder}.yaml",))
        files = ("base.yaml", f"{self.task}.yaml", file, f"{self.loss}.yaml")
        return [HERE / "conf" / name for name in files], [*settings, f"seed={self.seed}"]

    @property
    def is_kept(self) -> bool:
        """Whether its checkpoint is."""
        return self.seed == 0 and self.size == SIZES[-1] and self.encoder in ENCODERS


def cells(tasks: list[str]) -> list[Cell]:
    """The grid; the control at every size; at one size, all that is tried beside. Seeds first."""
    grid = [
        Cell(t, e, loss, n, s)
        for s, t, n, loss, e in product(SEEDS, tasks, SIZES, LOSSES, ENCODERS)
    ]
    beside = [Cell(t, "supervised", "hybrid", n, s) for s, t, n in product(SEEDS, tasks, SIZES)]
    if "set" in tasks:
        tried = [name for name in VARIANTS if name != "supervised"]
        beside += [Cell("set", e, "hybrid", 1024, s) for s, e in product(SEEDS, tried)]
    return sorted(grid + beside, key=lambda cell: (cell.seed, tasks.index(cell.task)))


def toy_cells(tasks: list[str]) -> list[Cell]:
    """A plain and a layer-wise one of each task, of four sessions."""
    return [
        Cell(task, encoder, "hybrid", 4, 0)
        for task, encoder in product(tasks, ("plain", "learned"))
    ]


def main() -> int:
    """Make the cells that are not there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--tasks", default=",".join(TASKS), help=f"of {', '.join(TASKS)}")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="default: one a core")
    parser.add_argument("--only", default="", help="cells whose name has this in it")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="of all cells")
    parser.add_argument("--toy", action="store_true", help="two cells a task, to see the way")
    parser.add_argument("--list", action="store_true", help="name the cells that are to be made")
    args = parser.parse_args()
    tasks = args.tasks.split(",")
    if not set(tasks) <= set(TASKS):
        parser.error(f"--tasks is {args.tasks}, but there are {', '.join(TASKS)}")
    if args.toy:
        args.set += ["trainer.max_steps=2", "data.batch_size=2"]
    wanted = toy_cells(tasks) if args.toy else cells(tasks)
    results = args.output / "results.jsonl"
    known = {found["name"]: found for found in read_results(results)}
    missing = [cell for cell in wanted if args.only in cell.name and cell.name not in known]
    if args.list:
        print("\n".join(cell.name for cell in missing))
        return 0
    os.environ["OMP_NUM_THREADS"] = "1"
    begun = time.monotonic()
    work = partial(make, data=args.data, output=args.output, settings=args.set)
    # A fresh process now and then, for what training leaves behind. Not ProcessPoolExecutor, which
    # in Python 3.11 waits for ever once its processes have done their share.
    with multiprocessing.get_context("spawn").Pool(args.jobs, maxtasksperchild=20) as pool:
        for done, found in enumerate(pool.imap_unordered(work, missing), start=1):
            known[found["name"]] = found
            write_results(results, known.values())
            minutes = (time.monotonic() - begun) / 60
            print(
                f"{found['name']}: DER {found['test_unseen']['der']:.2f}; "
                f"{done} of {len(missing)} cells, "
                f"{minutes:.0f} minutes, {minutes * (len(missing) / done - 1):.0f} to go",
                file=sys.stderr,
            )
    return 0


def read_results(path: Path) -> list[Found]:
    """Every cell that was measured; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_results(path: Path, results: Iterable[Found]) -> None:
    """All cells by name, whole or not at all."""
    from diarize.files import write_text

    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(found) + "\n" for found in sorted(results, key=lambda f: f["name"])]
    write_text(path, "".join(lines))


def make(cell: Cell, data: Path, output: Path, settings: list[str]) -> Found:
    """Train a cell and measure it."""
    import torch

    from diarize.checkpoint import load_checkpoint
    from diarize.environment import environment
    from diarize.training import train

    torch.set_num_threads(1)
    run = output / "runs" / cell.name
    configs, overrides = cell.settings
    sessions = first_lines(data / cell.task / "train.jsonl", cell.size)
    given = [f"data.sessions={sessions}", *overrides, *settings]
    shutil.rmtree(run, ignore_errors=True)  # of a cell that was cut off; it begins anew
    begun = time.perf_counter()
    checkpoint = train(configs, given, run)
    seconds = time.perf_counter() - begun
    diarizer = load_checkpoint(checkpoint).eval()
    steps = int(torch.load(checkpoint, weights_only=True)["global_step"])
    found: Found = {"name": cell.name, **vars(cell), "steps": steps}
    found["seconds_per_step"] = round(seconds / steps, 4)
    found["parameters"] = sum(p.numel() for p in diarizer.parameters() if p.requires_grad)
    gates = getattr(diarizer.encoder, "gates", None)
    found["gates"] = [] if gates is None else [round(gate, 4) for gate in gates.tolist()]
    for split in SPLITS:
        manifest = sessions if split == "train" else data / cell.task / f"{split}.jsonl"
        found[split] = measure(diarizer, manifest, scored=split.startswith("test"))
    here = environment()
    found |= {name: here[name] for name in ("commit", "changed_files", "machine", "packages")}
    if not cell.is_kept:
        shutil.rmtree(run)
    return found


def first_lines(manifest: Path, count: int) -> Path:
    """A manifest of the first lines, beside the whole one, whose paths are relative to it."""
    from diarize.files import write_text

    part = manifest.with_name(f"{manifest.stem}_{count}.jsonl")
    if not part.exists():
        lines = manifest.read_text(encoding="utf-8").splitlines(keepends=True)
        if len(lines) < count:
            raise SystemExit(
                f"ablate.py: {manifest}: has {len(lines)} lines, but {count} are needed."
            )
        write_text(part, "".join(lines[:count]))
    return part


def measure(diarizer: Any, manifest: Path, scored: bool = True) -> Found:
    """What a model makes of the first sessions of a manifest, each whole.

    Returns:
        ``sort_loss`` and ``permutation_invariant_loss``; ``arrival``, the share of speakers who
        have the slot of their place in the order of arrival; ``layers``, the frame error rate of
        each estimating layer and of the output, percent. If ``scored``, also ``der``, ``miss``,
        ``false_alarm`` and ``confusion`` in percent, collar 0, overlap scored, and ``count``, the
        share of sessions with the right number of speakers.
    """
    import torch

    from diarize.losses import best_order, permutation_invariant_loss, sort_loss
    from diarize.postprocess import PostprocessConfig, to_turns
    from diarize.score import DiarizationError, score

    total, counted, right, placed, speakers = DiarizationError(), 0, 0, 0, 0
    sums: dict[str, float] = {"sort_loss": 0.0, "permutation_invariant_loss": 0.0}
    wrong: list[float] = []
    active = 0.0
    for batch in batches(diarizer, manifest):
        truth, num_frames = batch.activity, batch.num_frames
        with torch.inference_mode():
            embedding, _ = diarizer.embed(batch.signal, batch.num_samples)
            logits, layers, _ = diarizer.classify_layers(embedding, num_frames)
        size = len(truth)
        sums["sort_loss"] += size * float(sort_loss(logits, truth, num_frames))
        loss = permutation_invariant_loss(logits, truth, num_frames)
        sums["permutation_invariant_loss"] += size * float(loss)
        counted += size
        present = truth.any(dim=1)
        order = best_order(logits, truth, num_frames)
        placed += int(((order == torch.arange(order.shape[1])) & present).sum())
        speakers += int(present.sum())
        active += float(truth.sum())
        errors = [frame_errors(each, truth, num_frames) for each in [*layers, logits]]
        wrong = [a + b for a, b in zip(wrong or [0.0] * len(errors), errors, strict=True)]
        shift = diarizer.grid.frame_shift
        for row, posterior in enumerate(logits.sigmoid().numpy() if scored else ()):
            turns = to_turns(posterior[: num_frames[row]], shift, PostprocessConfig())
            total += score(batch.turns[row], turns, uem=batch.regions[row])
            right += len({t.speaker for t in turns}) == len({t.speaker for t in batch.turns[row]})
    found = {name: value / counted for name, value in sums.items()}
    found |= {"arrival": placed / speakers, "sessions": counted}
    if scored:
        parts = {
            p: 100 * getattr(total, p) / total.scored for p in ("miss", "false_alarm", "confusion")
        }
        found |= parts | {"der": sum(parts.values()), "count": right / counted}
    rounded: Found = {name: round(value, 5) for name, value in found.items()}
    return rounded | {"layers": [round(100 * errors / active, 3) for errors in wrong]}


def batches(diarizer: Any, manifest: Path) -> Iterator[Any]:
    """Whole sessions, 32 at a time."""
    from diarize.data import Collate, SessionDataset
    from diarize.manifest import read_manifest

    sessions = SessionDataset(read_manifest(manifest)[:MOST], None)
    collate = Collate(diarizer.grid, diarizer.num_slots, hears=diarizer.hears)
    for first in range(0, len(sessions), 32):
        yield collate([sessions[i] for i in range(first, min(first + 32, len(sessions)))])


def frame_errors(logits: Any, truth: Any, num_frames: Any) -> float:
    """Speaker-frames that are missed, invented or confused, slots matched to speakers at best."""
    import torch

    from diarize.losses import best_order

    order = best_order(logits, truth, num_frames)
    ordered = truth.gather(2, order[:, None, :].expand_as(truth)) > 0.5
    frames = torch.arange(truth.shape[1])
    said = (logits > 0) & (frames < num_frames[:, None])[:, :, None]
    most = torch.maximum(said.sum(dim=2), ordered.sum(dim=2))
    return float((most - (said & ordered).sum(dim=2)).sum())


if __name__ == "__main__":
    sys.exit(main())
