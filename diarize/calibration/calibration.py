"""Posteriors before and after a rescaling, and what may be hoped of it on other sessions."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from diarize.calibration.evidence import Evidence
from diarize.calibration.reliability import NUM_BINS, Reliability
from diarize.calibration.rescaling import Rescaling, fit
from diarize.errors import ScoreError
from diarize.postprocess import PostprocessConfig
from diarize.progress import progress
from diarize.score.resample import NUM_DRAWS, interval, quotient, resample
from diarize.tune import Labelled, deal_out

FEW = 5
"""Sessions below which nothing is beyond chance: of four, all gain by chance once in sixteen."""

BEFORE = "before"
SAME = "calibrated, on the same sessions"
LEFT_OUT = "calibrated, on sessions left out"
"""Whose numbers: of the model as it was, and rescaled by what fits all sessions or all others."""


@dataclass(frozen=True)
class Calibration:
    """What was found.

    Attributes:
        session_ids: on which sessions.
        rescaling: the best of all sessions together.
        of_folds: the best without the sessions of each fold; none without cross-validation.
        posteriors: in words, whose -> session by session, how far posteriors are true.
        turns: likewise, how far a turn's confidence is the share of it that is right.
        seed: of folds and resamples.
    """

    session_ids: Sequence[str]
    rescaling: Rescaling
    of_folds: Sequence[Rescaling]
    posteriors: dict[str, list[Reliability]]
    turns: dict[str, list[Reliability]]
    seed: int

    @property
    def gain(self) -> tuple[float, float, float] | None:
        """Cross-entropy on sessions left out minus that before, with its 95 % interval.

        Sessions are drawn again and again, with replacement. None without cross-validation.
        """
        if not self.of_folds:
            return None
        pairs = zip(self.posteriors[LEFT_OUT], self.posteriors[BEFORE], strict=True)
        sums = np.array([(one.surprise - other.surprise, other.total) for one, other in pairs])
        drawn = resample(sums, seed=self.seed)
        more, seconds = sums.sum(axis=0)
        return float(more / seconds), *interval(quotient(drawn[:, 0], drawn[:, 1]))

    @property
    def is_better(self) -> bool:
        """Whether sessions that it was not fitted to surprise less, beyond chance."""
        return self.gain is not None and len(self.session_ids) >= FEW and self.gain[2] < 0

    @property
    def verdict(self) -> str:
        """What to do, and why."""
        if self.gain is None:
            return (
                "not cross-validated, so nothing is known of other sessions. Keep the model as it "
                "is, or calibrate it on several."
            )
        if len(self.session_ids) < FEW:
            return (
                f"{len(self.session_ids)} sessions do not tell a gain from chance. Keep the model "
                f"as it is, or calibrate it on {FEW} or more."
            )
        if self.is_better:
            return "better on sessions that it was not fitted to, beyond chance. Take it."
        return (
            "no better than before on sessions that it was not fitted to, or by chance. Keep the "
            "model as it is."
        )

    @property
    def shown(self) -> str:
        """Which row stands beside the one before: that of sessions left out, if there is one."""
        return LEFT_OUT if self.of_folds else SAME

    def to_text(self) -> str:
        """Tables, and what may be hoped for."""
        lines = [f"sessions: {len(self.session_ids)}"]
        lines += [f"{'':34}{'cross-entropy':>13}{'Brier':>9}{'ECE %':>8}{'turns: ECE %':>14}"]
        for name, parts in self.posteriors.items():
            whole, turns = Reliability.sum(parts), Reliability.sum(self.turns[name])
            lines.append(
                f"{name:34}{whole.cross_entropy:13.4f}{whole.brier:9.4f}"
                f"{100 * whole.calibration_error:8.2f}{100 * turns.calibration_error:14.2f}"
            )
        lines += [*self._in_words(), ""]
        lines += self._table("posterior", self.posteriors)
        lines += ["", *self._table("confidence of turns", self.turns)]
        return "\n".join(lines) + "\n"

    def _in_words(self) -> list[str]:
        lines = []
        if self.gain is not None:
            more, low, high = self.gain
            lines.append(
                f"left out - before: {more:+.4f} of cross-entropy, 95 % interval {low:+.4f} to "
                f"{high:+.4f} ({len(self.of_folds)} folds, {NUM_DRAWS} resamples of sessions)"
            )
        found = asdict(self.rescaling)
        for name in found if self.rescaling.bias else ("temperature",):
            values = [getattr(rescaling, name) for rescaling in self.of_folds]
            spread = f", {min(values):.3f} to {max(values):.3f} in folds" if values else ""
            lines.append(f"{name}: {found[name]:.3f}{spread}")
        return [*lines, f"verdict: {self.verdict}"]

    def _table(self, what: str, reliability: dict[str, list[Reliability]]) -> list[str]:
        sides = [Reliability.sum(reliability[name]).rows() for name in (BEFORE, self.shown)]
        head = f"{'seconds':>17}{'stated %':>10}{'true %':>8}"
        lines = [f"{'':20}{BEFORE:>35}{self.shown:>35}", f"{what:20}{head}{head}"]
        for place, rows in enumerate(zip(*sides, strict=True)):
            if any(seconds for seconds, _, _ in rows):
                label = f"{place / NUM_BINS:.1f} to {(place + 1) / NUM_BINS:.1f}"
                cells = [
                    f"{seconds:17.0f}{100 * stated:10.1f}{100 * true:8.1f}"
                    if seconds
                    else f"{0:17}{'':18}"
                    for seconds, stated, true in rows
                ]
                lines.append(f"{label:20}{''.join(cells)}".rstrip())
        return lines

    def to_json(self) -> str:
        """The same as JSON, shares from 0 to 1."""
        report = {
            "rescaling": asdict(self.rescaling),
            "of_folds": [asdict(rescaling) for rescaling in self.of_folds],
            "gain": self.gain,
            "is_better": self.is_better,
            "verdict": self.verdict,
            "seed": self.seed,
            "session_ids": list(self.session_ids),
            "posteriors": {name: _values(parts) for name, parts in self.posteriors.items()},
            "turns": {name: _values(parts) for name, parts in self.turns.items()},
        }
        return json.dumps(report, indent=2, ensure_ascii=False) + "\n"


def calibrate(
    sessions: Sequence[Labelled],
    postprocess: PostprocessConfig,
    with_bias: bool = False,
    num_folds: int = 10,
    seed: int = 0,
    show: bool = True,
) -> Calibration:
    """The rescaling under which references are least surprising, cross-validated.

    In cross-validation sessions are dealt out to folds, and each fold is judged with the rescaling
    that fits the others.

    Args:
        sessions: judged sessions with references.
        postprocess: how turns are made.
        with_bias: fit a bias besides the temperature.
        num_folds: parts of cross-validation, at most as many as sessions; below 2 for none.
        seed: of folds and resamples.
        show: tell on standard error how far it is.

    Raises:
        ScoreError: if no speech of the references is heard by anybody, or no rescaling fits.
    """
    evidence = []
    with progress(len(sessions), "sessions compared", show) as advance:
        for session in sessions:
            evidence.append(Evidence.of(session, postprocess))
            advance(1)
    if not sum(own.active.sum() for own in evidence) > 0:
        raise ScoreError(
            f"in {len(sessions)} sessions no turn has a second in common with the reference, but "
            "posteriors are held against that. Are these the references, and the UEM?"
        )
    folds = deal_out(len(sessions), num_folds, seed)
    with progress(1 + len(folds), "fits", show) as advance:
        best = _fit(evidence, with_bias)
        advance(1)
        of_folds = []
        for fold in folds:
            kept = [own for own, left_out in zip(evidence, fold, strict=True) if not left_out]
            of_folds.append(_fit(kept, with_bias))
            advance(1)
    used = {BEFORE: [Rescaling()] * len(sessions), SAME: [best] * len(sessions)}
    if folds:
        used[LEFT_OUT] = [of_folds[place] for place in np.argmax(folds, axis=0).tolist()]
    pairs = {name: list(zip(evidence, own, strict=True)) for name, own in used.items()}
    return Calibration(
        [session.session_id for session in sessions],
        best,
        of_folds,
        {name: [own.posteriors(by) for own, by in of] for name, of in pairs.items()},
        {name: [own.turns(by) for own, by in of] for name, of in pairs.items()},
        seed,
    )


def _fit(evidence: Sequence[Evidence], with_bias: bool) -> Rescaling:
    rows = [(own.posterior, own.seconds, own.active) for own in evidence]
    posterior, seconds, active = (np.concatenate(column) for column in zip(*rows, strict=True))
    return fit(posterior, seconds, active, with_bias)


def _values(parts: Sequence[Reliability]) -> dict[str, Any]:
    """What there is to be told of all sessions, by name."""
    whole = Reliability.sum(parts)
    names = ("seconds", "stated", "true")
    return {
        "cross_entropy": whole.cross_entropy,
        "brier": whole.brier,
        "calibration_error": whole.calibration_error,
        "bins": [dict(zip(names, row, strict=True)) for row in whole.rows()],
    }
