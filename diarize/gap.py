"""How far simulated turn-taking is from that of references, and what would bring it nearer.

Distances between distributions are Wasserstein's first: the seconds by which values must be moved
on average to make one of the other.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from diarize.errors import RttmError
from diarize.files import replacing
from diarize.turntaking import QUANTILES, Observed, fit

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FAR = 0.2
"""Distance, as a part of what is real, from which a setting is recommended."""

MEANING = {
    "turn": "who has the floor speaks for",
    "pause": "silence before he goes on",
    "gap": "silence before another speaks",
    "overlap": "another begins early by",
    "backchannel": "words within another's turn",
}
"""Of the distributions, for the report."""


@dataclass(frozen=True)
class Row:
    """One quantity on both sides.

    Attributes:
        name: as `Observed` calls it.
        unit: "s", "%", or "" for numbers of speakers.
        real: mean, median and 90 % quantile of a distribution; one number else.
        simulated: likewise.
        distance: in the unit.
        advice: settings of ``SimulationConfig`` that would bring it nearer; "" where it is near.
    """

    name: str
    unit: str
    real: tuple[float, ...]
    simulated: tuple[float, ...]
    distance: float
    advice: str


@dataclass(frozen=True)
class Gap:
    """A comparison of references with a simulation.

    Attributes:
        real: what was seen in references.
        simulated: what was seen in simulated sessions.
        rows: quantity by quantity.
    """

    real: Observed
    simulated: Observed
    rows: tuple[Row, ...]

    def to_text(self) -> str:
        """A table, and what is recommended."""
        head = f"{'':14}{'real: mean':>12}{'median':>9}{'90 %':>9}{'simulated':>12}{'median':>9}"
        lines = [f"{head}{'90 %':>9}{'distance':>10}"]
        for row in self.rows:
            values = [
                "".join(
                    f"{value:{width}.2f}" for value, width in zip(side, (12, 9, 9), strict=False)
                )
                for side in (row.real, row.simulated)
            ]
            name = f"{row.name}, {row.unit}" if row.unit else row.name
            far = " <" if row.advice else ""
            lines.append(f"{name:14}{values[0]:30}{values[1]:30}{row.distance:10.2f}{far}")
        advice = [row.advice for row in self.rows if row.advice]
        if advice:
            lines += ["", "nearer with:  " + " ".join(advice)]
            lines.append(
                "or with what `diarize simulate fit` makes of the references: turn_taking=FILE"
            )
        return "\n".join(lines) + "\n"

    def to_json(self) -> str:
        """The same for programs."""
        return json.dumps({"rows": [vars(row) for row in self.rows]}, indent=2) + "\n"


def compare(real: Observed, simulated: Observed) -> Gap:
    """References with simulated sessions.

    Raises:
        RttmError: if one side has no turns that follow each other.
    """
    for name, side in (("references", real), ("simulation", simulated)):
        try:
            fit(side)
        except RttmError as error:
            raise RttmError(f"{name}: {error}") from None
    rows = [_distribution(name, real, simulated) for name in QUANTILES]
    rows += [_share(name, getattr(real, name), getattr(simulated, name)) for name in SETTINGS]
    rows.append(_speakers(real, simulated))
    return Gap(real, simulated, tuple(rows))


SETTINGS = {
    "hold": "hold={:.2f}",
    "interrupt": "overlap={:.2f}",
    "silence": "silence_ratio={:.2f}",
    "overlapped": "overlap_ratio={:.2f}",
}
"""Shares, and the settings that reach them."""


def _distribution(name: str, real: Observed, simulated: Observed) -> Row:
    one, other = getattr(real, name), getattr(simulated, name)
    distance = float(wasserstein_distance(one, other)) if len(one) and len(other) else np.nan
    mean = float(one.mean()) if len(one) else 0.0
    silences = np.concatenate([real.pause, real.gap])
    settings = {
        "turn": f"max_turn={float(np.quantile(one, 0.9)) if len(one) else 0.0:.1f}",
        "pause": f"pause={float(silences.mean()) if len(silences) else 0.0:.2f}",
        "overlap": f"overlap_duration={mean:.2f}",
        "backchannel": f"backchannel={min(len(one) / max(len(real.turn), 1), 1.0):.2f}",
    }
    far = not distance <= FAR * mean and len(one) > 0
    return Row(
        name, "s", _summary(one), _summary(other), distance, settings.get(name, "") if far else ""
    )


def _share(name: str, real: float, simulated: float) -> Row:
    far = abs(real - simulated) > FAR * max(real, 0.05)
    advice = SETTINGS[name].format(real) if far else ""
    return Row(name, "%", (100 * real,), (100 * simulated,), 100 * abs(real - simulated), advice)


def _speakers(real: Observed, simulated: Observed) -> Row:
    counts = [np.bincount(side.speakers, minlength=2)[1:] for side in (real, simulated)]
    most = max(len(count) for count in counts)
    shares = [np.pad(count / count.sum(), (0, most - len(count))) for count in counts]
    distance = float(np.abs(shares[0] - shares[1]).sum() / 2)
    listed = ",".join(f"{share:.2f}" for share in shares[0][: len(counts[0])])
    advice = f"'num_speakers=[{listed}]'" if distance > FAR else ""
    return Row(
        "speakers", "", _summary(real.speakers), _summary(simulated.speakers), distance, advice
    )


def _summary(values: NDArray[Any]) -> tuple[float, ...]:
    if not len(values):
        return (np.nan,) * 3
    found = (values.mean(), np.median(values), np.quantile(values, 0.9))
    return tuple(round(float(value), 3) for value in found)


def draw_gap(path: str | Path, gap: Gap) -> None:
    """Histograms of both sides as a picture, written whole or not at all.

    Args:
        path: its ending tells the kind: png, svg or pdf.
        gap: what is drawn.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 6.0), layout="constrained")
    panels: Sequence[Axes] = list(np.ravel(figure.subplots(2, 3)))
    sides = ((gap.real, "real", "#0072b2"), (gap.simulated, "simulated", "#d55e00"))
    for name, axes in zip(QUANTILES, panels, strict=False):
        longest = max(
            (float(np.quantile(v, 0.97)) for s, *_ in sides if len(v := getattr(s, name))),
            default=1.0,
        )
        edges = np.linspace(0.0, max(longest, 0.1), 40)
        for side, label, color in sides:
            values = np.minimum(getattr(side, name), edges[-1])
            weights = np.full(len(values), 100 / max(len(values), 1))
            axes.hist(
                values, edges.tolist(), weights=weights, label=label, color=color, histtype="step"
            )
        axes.set(
            title=f"{name}: {MEANING[name]}", xlabel="seconds, the last all beyond", ylabel="%"
        )
    panels[0].legend(frameon=False)
    most = max(int(side.speakers.max()) for side, *_ in sides)
    for place, (side, _, color) in enumerate(sides):
        share = np.bincount(side.speakers, minlength=most + 1)[1:] * 100 / len(side.speakers)
        panels[5].bar(np.arange(1, most + 1) + 0.4 * place - 0.2, share, 0.4, color=color)
    panels[5].set(title="speakers of a session", ylabel="%", xticks=range(1, most + 1))
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as place_, place_.open("wb") as file:
        figure.savefig(file, format=Path(path).suffix[1:] or "png", dpi=100)
