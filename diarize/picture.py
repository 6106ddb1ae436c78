"""Who spoke when, as a picture: the waveform, a lane per speaker, and reference lanes below.

A speaker and the reference speaker he or she is mapped to, as for the diarization error rate, have
one colour.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from diarize.files import replacing
from diarize.score import score_session
from diarize.turns import Segment, Turn, in_order

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f5539", "#8c8c00")
"""Told apart by colour-blind readers: six of Okabe and Ito's (2008), and two earths."""


def need_matplotlib() -> None:
    """See that pictures can be drawn at all.

    Raises:
        ModuleNotFoundError: if matplotlib is not installed.
    """
    import matplotlib.figure  # noqa: F401


def extremes(signal: NDArray[np.float32], num_bins: int) -> NDArray[np.float32]:
    """Lowest and highest sample of equal stretches: all that a picture shows of a waveform.

    Of features, it shows the root mean square of each row, up and down.

    Args:
        signal: (sample,), or features, (row, dim).
        num_bins: stretches; fewer where there are fewer samples or rows.

    Returns:
        (bin, 2), lowest and highest.
    """
    num_bins = min(num_bins, len(signal))
    if num_bins == 0:
        return np.zeros((0, 2), dtype=np.float32)
    starts = np.arange(num_bins) * len(signal) // num_bins
    if signal.ndim == 2:
        power = np.square(signal, dtype=np.float64).mean(axis=1)
        highest = np.sqrt(np.maximum.reduceat(power, starts)).astype(np.float32)
        return np.stack([-highest, highest], axis=1)
    lowest = np.minimum.reduceat(signal, starts)
    return np.stack([lowest, np.maximum.reduceat(signal, starts)], axis=1)


def draw(
    path: str | Path,
    span: Segment,
    waveform: NDArray[np.float32],
    turns: Sequence[Turn],
    reference: Sequence[Turn] | None = None,
    title: str = "",
) -> None:
    """Write a picture, whole or not at all.

    Args:
        path: its ending tells the kind: png, svg or pdf.
        span: what is drawn, seconds of the recording.
        waveform: (bin, 2), lowest and highest sample of equal stretches of the span.
        turns: who spoke when, seconds of the recording.
        reference: who did in truth; None draws no lanes for it.
        title: written above.
    """
    from matplotlib.figure import Figure

    mapped = score_session(reference or [], turns).mapping
    mapping = {truth: name for name, truth in mapped.items()}
    names = list(dict.fromkeys(turn.speaker for turn in in_order(turns)))
    lanes = [(name, name, turns) for name in names]
    color = {name: COLORS[index % len(COLORS)] for index, name in enumerate(names)}
    for name in dict.fromkeys(turn.speaker for turn in in_order(reference or [])):
        lanes.append((f"{name} (reference)", name, reference or []))
        # A reference speaker whom nobody stands for is grey.
        color.setdefault(f"{name} (reference)", color.get(mapping.get(name, ""), "#999999"))
    figure = Figure(figsize=(12.0, 1.9 + 0.32 * max(len(lanes), 1)), layout="constrained")
    sound, stage = figure.subplots(
        2, 1, sharex=True, height_ratios=[1.0, 0.32 * max(len(lanes), 1)]
    )
    times = span.start + span.duration * (np.arange(len(waveform)) + 0.5) / max(len(waveform), 1)
    sound.fill_between(times, waveform[:, 0], waveform[:, 1], color="#555555", linewidth=0.4)
    sound.set(yticks=[], title=title, xlim=(span.start, span.end))
    for row, (label, name, source) in enumerate(lanes):
        bars = [(turn.start, turn.duration) for turn in source if turn.speaker == name]
        stage.broken_barh(bars, (row - 0.36, 0.72), color=color[label])
    stage.set(ylim=(len(lanes) - 0.4, -0.6), xlabel="seconds" if span.end < 120 else "minutes")
    stage.set_yticks(range(len(lanes)), [label for label, _, _ in lanes])
    if reference:
        stage.axhline(len(names) - 0.5, color="#bbbbbb", linewidth=0.8)
    _write_minutes(cast("Axes", stage), span)
    for axes in (sound, stage):
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as place, place.open("wb") as file:
        figure.savefig(file, format=Path(path).suffix[1:] or "png", dpi=100)


def _write_minutes(axes: "Axes", span: Segment) -> None:
    """Times as m:ss where there are minutes, at most a dozen of them."""
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    if span.end >= 120:
        steps = (5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)
        step = next((step for step in steps if span.duration <= 12 * step), 7200)
        axes.xaxis.set_major_locator(MultipleLocator(step))
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda x, _: f"{int(x) // 60}:{int(x) % 60:02d}")
        )
