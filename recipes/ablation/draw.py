"""Pictures of the ablation.

    python recipes/ablation/draw.py results RESULTS FOLDER
    python recipes/ablation/draw.py session DATA OUTPUT CELL PICTURE

``results`` draws gap.png, der.png and layers.png into FOLDER from what ablate.py wrote; ``session``
what a cell that kept its checkpoint makes of one session: attention of every layer, what each
estimates, and what is fed back.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from ablate import LOSSES, SIZES, TASKS, Found, read_results
from report import chosen, gap

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

FEEDING = ("sinusoidal", "learned")
"""Encoders that feed back what they estimate."""

COLORS = {
    "plain": "#444444",
    "supervised": "#2f7ebc",
    "sinusoidal": "#2a9d5c",
    "learned": "#d1603d",
}
TITLES = {
    "set": "set labelling, up to 4 classes",
    "speech2": "speech, up to 2 speakers",
    "speech4": "speech, up to 4 speakers",
    "sort": "sort loss",
    "permutation_invariant": "permutation-invariant loss",
    "hybrid": "both",
}


def main() -> int:
    """Draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    results = verbs.add_parser("results")
    results.add_argument("results", type=Path)
    results.add_argument("folder", type=Path)
    session = verbs.add_parser("session")
    session.add_argument("data", type=Path)
    session.add_argument("output", type=Path)
    session.add_argument("cell")
    session.add_argument("picture", type=Path)
    session.add_argument("--index", type=int, default=0, help="of the session, in test_unseen")
    args = parser.parse_args()
    if args.verb == "session":
        draw_session(args.data, args.output / "runs" / args.cell, args.index, args.picture)
        return 0
    results = read_results(args.results)
    against_size(results, gap, "dev loss less train loss", args.folder / "gap.png")
    unseen = "DER on unseen classes, %"
    against_size(results, lambda c: c["test_unseen"]["der"], unseen, args.folder / "der.png")
    by_layer(results, args.folder / "layers.png")
    return 0


def against_size(results: list[Found], of: Any, label: str, path: Path) -> None:
    """A value against the number of training sessions: means, and each seed as a dot."""

    def curve(panel: Any, cells: list[Found], name: str, color: str) -> None:
        found = {size: [of(cell) for cell in chosen(cells, size=size)] for size in SIZES}
        found = {size: values for size, values in found.items() if values}
        means = [statistics.mean(values) for values in found.values()]
        panel.plot(list(found), means, color=color, label=name)
        for size, values in found.items():
            panel.plot([size] * len(values), values, ".", color=color, markersize=4)

    figure, panels = grid(results, curve, label, "training sessions")
    for panel in panels.flat:
        panel.set_xscale("log", base=2)
        panel.set_xticks(SIZES, [str(size) for size in SIZES])
    figure.savefig(path, dpi=110)


def by_layer(results: list[Found], path: Path) -> None:
    """Frame error rate of what each layer estimates, of the largest training size."""

    def curve(panel: Any, cells: list[Found], name: str, color: str) -> None:
        layers = [cell["test_unseen"]["layers"] for cell in chosen(cells, size=SIZES[-1])]
        if layers:
            depths = [*range(1, len(layers[0])), 4]
            means = np.mean(layers, axis=0)
            panel.plot(depths, means, "o-", color=color, label=name, markersize=4)

    figure, panels = grid(results, curve, "frame error rate, %", "layer")
    for panel in panels.flat:
        panel.set_xticks([1, 2, 3, 4], ["1", "2", "3", "output"])
    figure.savefig(path, dpi=110)


def grid(results: list[Found], curve: Any, label: str, below: str) -> tuple[Any, Any]:
    """A figure and its panels, (task, loss), with the curve that each encoder has in them."""
    tasks = [task for task in TASKS if chosen(results, task=task)]
    figure, panels = pyplot.subplots(
        len(tasks), len(LOSSES), figsize=(10, 2.7 * len(tasks)), sharex=True, sharey="row",
        squeeze=False, layout="constrained",
    )  # fmt: skip
    for row, task in zip(panels, tasks, strict=True):
        for panel, loss in zip(row, LOSSES, strict=True):
            for encoder, color in COLORS.items():
                cells = chosen(results, task=task, loss=loss, encoder=encoder)
                if cells:
                    curve(panel, cells, encoder, color)
            panel.set_title(f"{TITLES[task]}\n{TITLES[loss]}", fontsize=9)
            panel.grid(alpha=0.3)
        row[0].set_ylabel(label)
    for panel in panels[-1]:
        panel.set_xlabel(below)
    if panels[0][-1].lines:
        panels[0][-1].legend(fontsize=8)
    return figure, panels


def draw_session(data: Path, run: Path, index: int, path: Path) -> None:
    """Attention, estimates and encodings of each layer."""
    import torch

    from diarize.checkpoint import load_checkpoint
    from diarize.data import Collate, SessionDataset
    from diarize.encoder.sortformer import by_arrival
    from diarize.encoder.transformer import TransformerLayer
    from diarize.manifest import read_manifest

    diarizer = load_checkpoint(run / "checkpoints" / "last.ckpt").eval()
    if getattr(diarizer.encoder, "gates", None) is None:
        raise SystemExit(f"draw.py: {run.name} feeds nothing back. Name a cell of {FEEDING}.")
    sessions = SessionDataset(
        read_manifest(data / run.name.split("-")[0] / "test_unseen.jsonl"), None
    )
    batch = Collate(diarizer.grid, diarizer.num_slots, hears=diarizer.hears)([sessions[index]])
    scores: list[Any] = []

    def note(layer: Any, inputs: Any) -> None:
        hidden, _, rotation = inputs
        hidden = layer.norm_attention(hidden) if layer.config.pre_norm else hidden
        query, key = layer.compare(hidden, hidden, rotation)
        scores.append((query @ key.transpose(2, 3) * query.shape[3] ** -0.5).softmax(dim=3)[0])

    for layer in diarizer.encoder.layers:
        assert isinstance(layer, TransformerLayer)
        layer.register_forward_pre_hook(note)
    with torch.inference_mode():
        embedding, num_frames = diarizer.embed(batch.signal, batch.num_samples)
        logits, layers, _ = diarizer.classify_layers(embedding, num_frames)
        encodings = [diarizer.encoder.encode(layer, num_frames)[0] for layer in layers]
    gates = diarizer.encoder.gates.tolist()
    seconds = logits.shape[1] * diarizer.grid.frame_shift
    columns = len(scores)
    figure, panels = pyplot.subplots(
        4, columns, figsize=(3.4 * columns, 8), layout="constrained", height_ratios=[3, 1, 1, 2]
    )
    for column in range(columns):
        attention, truth, posterior, encoding = panels[:, column]
        weights = scores[column].mean(dim=0).sqrt().numpy()
        attention.imshow(weights, extent=(0, seconds, seconds, 0), aspect="auto", cmap="magma")
        attention.set_title(f"layer {column + 1}: attention", fontsize=9)
        shown = [*layers, logits][column]
        sorted_ = by_arrival(shown, num_frames)[0].sigmoid().T.numpy()
        lanes(truth, batch.activity[0].T.numpy(), seconds, "reference, by arrival")
        what = "output" if column == columns - 1 else "its estimate, sorted"
        lanes(posterior, sorted_, seconds, what)
        if column < len(encodings):
            encoding.imshow(
                encodings[column].T.numpy(), extent=(0, seconds, 64, 0), aspect="auto",
                cmap="RdBu", vmin=-2, vmax=2,
            )  # fmt: skip
            encoding.set_title(f"fed back, gate {gates[column]:+.2f}", fontsize=9)
            encoding.set_xlabel("seconds")
        else:
            encoding.axis("off")
    panels[0, 0].set_ylabel("attending, s")
    panels[3, 0].set_ylabel("channel")
    figure.suptitle(f"{run.name}: {sessions[index].session_id}", fontsize=10)
    figure.savefig(path, dpi=75)


def lanes(panel: Any, activity: Any, seconds: float, title: str) -> None:
    """Slots over time."""
    panel.imshow(
        activity, extent=(0, seconds, len(activity), 0), aspect="auto", cmap="Greys", vmin=0,
        vmax=1, interpolation="nearest",
    )  # fmt: skip
    panel.set_yticks(np.arange(len(activity)) + 0.5, [str(slot) for slot in range(len(activity))])
    panel.set_title(title, fontsize=9)


if __name__ == "__main__":
    sys.exit(main())
