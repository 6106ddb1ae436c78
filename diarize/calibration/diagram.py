"""Reliability as a picture: what is stated against what is true, before and after."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from diarize.calibration.calibration import BEFORE, Calibration
from diarize.calibration.reliability import NUM_BINS, Reliability
from diarize.files import replacing
from diarize.picture import COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ENDINGS = (".png", ".svg", ".pdf")
"""Kinds of pictures."""


def draw(path: str | Path, calibration: Calibration) -> None:
    """Write the reliability of posteriors and of turns, whole or not at all.

    Above, the share that is true against the mean that is stated, bin by bin, beside the diagonal
    of perfect calibration; below, of how many seconds.

    Args:
        path: its ending is one of `ENDINGS`.
        calibration: what is drawn.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, NullFormatter

    figure = Figure(figsize=(9.0, 5.6), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, height_ratios=[3.0, 1.0])
    sides = {"posteriors": calibration.posteriors, "turns, by confidence": calibration.turns}
    for (title, reliability), (above, below) in zip(sides.items(), axes.T, strict=True):
        above.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1.0)
        for number, name in enumerate((BEFORE, calibration.shown)):
            whole = Reliability.sum(reliability[name])
            _draw_one(above, below, whole, name, number)
        above.set(title=title, xlim=(0, 1), ylim=(0, 1))
        above.legend(frameon=False, loc="upper left", fontsize="small")
        below.set(xlabel="stated", yscale="log")
        below.yaxis.set_major_formatter(EngFormatter(sep=""))
        below.yaxis.set_minor_formatter(NullFormatter())  # between decades, labels would overlap
        for own in (above, below):
            own.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("true")
    axes[1, 0].set_ylabel("seconds")
    with replacing(path) as place, place.open("wb") as file:
        figure.savefig(file, format=Path(path).suffix[1:], dpi=100)


def _draw_one(above: "Axes", below: "Axes", whole: Reliability, name: str, number: int) -> None:
    """One line, and its bars beside those of the other."""
    seconds, stated, true = np.array(whole.rows()).T
    some = seconds > 0
    label = f"{name}: ECE {100 * whole.calibration_error:.1f} %"
    color = COLORS[number]
    above.plot(stated[some], true[some], "o-", color=color, markersize=4, label=label)
    width = 0.4 / NUM_BINS
    middles = (np.arange(NUM_BINS) + 0.5) / NUM_BINS + (number - 0.5) * width
    below.bar(middles[some], seconds[some], width, color=color)
