"""Post-processing tuned, and what may be hoped of it on sessions that it was not tuned on."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from diarize.postprocess import PostprocessConfig
from diarize.progress import progress
from diarize.score import Condition, DiarizationError
from diarize.score.resample import NUM_DRAWS, interval, quotient, resample
from diarize.tune.search import LEAST, MOST, Search, size, to_config
from diarize.tune.trials import Labelled, Trials

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tuning:
    """What was found.

    Attributes:
        condition: what was scored.
        session_ids: on which sessions.
        before: the setting to beat.
        tuned: the best setting on all sessions.
        errors_before: session by session.
        errors_tuned: likewise, on the sessions that the setting was tuned on.
        errors_left_out: likewise, each with the setting tuned on sessions of other folds; None
            where there was no cross-validation.
        num_folds: parts of cross-validation.
        num_tried: different settings.
        seed: of draws, folds and resamples.
        interrupted: the search was not ended.
    """

    condition: Condition
    session_ids: Sequence[str]
    before: PostprocessConfig
    tuned: PostprocessConfig
    errors_before: Sequence[DiarizationError]
    errors_tuned: Sequence[DiarizationError]
    errors_left_out: Sequence[DiarizationError] | None
    num_folds: int
    num_tried: int
    seed: int
    interrupted: bool = False

    @property
    def totals(self) -> dict[str, DiarizationError]:
        """In words, whose -> the sum over sessions."""
        rows = {"before": self.errors_before, "tuned, on the same sessions": self.errors_tuned}
        if self.errors_left_out is not None:
            rows["tuned, on sessions left out"] = self.errors_left_out
        return {name: sum(errors, DiarizationError()) for name, errors in rows.items()}

    @property
    def gain(self) -> tuple[float, float, float] | None:
        """DER on sessions left out minus DER before, with its 95 % interval.

        Sessions are drawn again and again, with replacement, and the errors of both sides with
        them. None without cross-validation.
        """
        if self.errors_left_out is None:
            return None
        pairs = zip(self.errors_left_out, self.errors_before, strict=True)
        more = np.array([_wrong(after) - _wrong(before) for after, before in pairs])
        scored = np.array([error.scored for error in self.errors_before])
        drawn = resample(np.stack([more, scored], axis=1), seed=self.seed)
        low, high = interval(quotient(drawn[:, 0], drawn[:, 1]))
        return float(more.sum() / scored.sum()), low, high

    @property
    def is_better(self) -> bool:
        """Whether it errs less where it was not tuned, beyond what sessions differ by chance."""
        return self.gain is not None and self.gain[2] < 0

    @property
    def verdict(self) -> str:
        """What to do, and why."""
        if self.interrupted:
            return "the search was interrupted: this is the best so far, not cross-validated."
        if self.gain is None:
            return (
                "not cross-validated, so nothing is known of other sessions. Keep the setting "
                "before, or tune on several."
            )
        if self.is_better:
            return "better on sessions that it was not tuned on, beyond chance. Take it."
        return (
            "no better than before on sessions that it was not tuned on, or by chance. Keep that."
        )

    @property
    def at_bounds(self) -> list[str]:
        """Names of settings that lie at an end of what was searched, other than 0."""
        names = [field.name for field in fields(PostprocessConfig)]
        values = [round(100 * getattr(self.tuned, name)) for name in names]
        ends = zip(names, values, LEAST, MOST, strict=True)
        return [name for name, value, low, high in ends if value in (low, high) and value]

    def to_text(self) -> str:
        """A table, what may be hoped for, and the setting."""
        totals = self.totals
        width = max(map(len, totals))
        lines = [f"condition: {self.condition}", f"sessions: {len(self.session_ids)}"]
        lines += [f"tried: {self.num_tried} settings of {size():.1e}, in hundredths"]
        lines += [
            f"{'':{width}}  {'miss %':>8}  {'false alarm %':>13}  {'confusion %':>11}  {'DER %':>8}"
        ]
        for name, error in totals.items():
            miss, false_alarm, confusion = (
                100 * error.part(s) for s in (error.miss, error.false_alarm, error.confusion)
            )
            lines.append(
                f"{name:{width}}  {miss:8.2f}  {false_alarm:13.2f}  {confusion:11.2f}  "
                f"{100 * error.der:8.2f}"
            )
        lines += [*self._in_words(), ""]
        lines += [f"{'':16}  {'before':>6}  {'tuned':>6}"]
        for name, value in asdict(self.before).items():
            lines.append(f"{name:16}  {value:6.3g}  {getattr(self.tuned, name):6.3g}")
        return "\n".join(lines) + "\n"

    def to_json(self) -> str:
        """The same as JSON: percent, and the sessions one by one."""
        columns = {"before": self.errors_before, "tuned": self.errors_tuned}
        if self.errors_left_out is not None:
            columns["left_out"] = self.errors_left_out
        report = {
            "condition": asdict(self.condition),
            "before": asdict(self.before),
            "tuned": asdict(self.tuned),
            "der": {n: 100 * sum(e, DiarizationError()).der for n, e in columns.items()},
            "gain": None if self.gain is None else [100 * value for value in self.gain],
            "is_better": self.is_better,
            "verdict": self.verdict,
            "num_folds": self.num_folds,
            "num_tried": self.num_tried,
            "seed": self.seed,
            "sessions": [
                {"session_id": name} | {n: asdict(e[i]) for n, e in columns.items()}
                for i, name in enumerate(self.session_ids)
            ],
        }
        return json.dumps(report, indent=2, ensure_ascii=False) + "\n"

    def to_yaml(self, facts: Sequence[str]) -> str:
        """The setting as `load_postprocess` reads it, with its passport as comments.

        Args:
            facts: lines on what it was tuned on, with and by.
        """
        lines = [*facts, f"condition: {self.condition}; {len(self.session_ids)} sessions"]
        ders = [f"{100 * error.der:.2f} % {name}" for name, error in self.totals.items()]
        lines += [f"DER: {'; '.join(ders)}", *self._in_words()]
        settings = [f"{name}: {value:g}" for name, value in asdict(self.tuned).items()]
        return "".join(f"{line}\n" for line in [*(f"# {line}" for line in lines), *settings])

    def _in_words(self) -> list[str]:
        lines = []
        if self.gain is not None:
            more, low, high = (100 * value for value in self.gain)
            lines.append(
                f"left out - before: {more:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f} "
                f"({self.num_folds} folds, {NUM_DRAWS} resamples of sessions)"
            )
        scored = [error.scored for error in self.errors_before]
        if len(scored) > 1 and max(scored) > sum(scored) / 2:
            name, share = self.session_ids[int(np.argmax(scored))], max(scored) / sum(scored)
            lines.append(f"note: {share:.0%} of what is scored is in one session, {name!r}")
        lines.append(f"verdict: {self.verdict}")
        if self.at_bounds:
            lines.append(f"at the end of what is searched: {', '.join(self.at_bounds)}")
        return lines


def tune(
    sessions: Sequence[Labelled],
    condition: Condition,
    before: PostprocessConfig,
    num_folds: int = 10,
    num_draws: int = 500,
    seed: int = 0,
    keep: Callable[[Tuning], None] = lambda tuning: None,
    show: bool = True,
) -> Tuning:
    """The setting of least DER over all sessions, cross-validated.

    In cross-validation sessions are dealt out to folds, and each fold is judged with the setting
    that a search of the same kind finds on the others.

    Args:
        sessions: judged sessions with references.
        condition: what is scored.
        before: the setting to beat.
        num_folds: parts of cross-validation, at most as many as sessions; below 2 for none.
        num_draws: settings that are tried before the best are refined.
        seed: of draws, folds and resamples.
        keep: is given what was found on all sessions, before cross-validation takes its time.
        show: tell on standard error how far it is.

    Returns:
        What was found; the best so far, if it is interrupted.

    Raises:
        ScoreError: if no speech is scored, or sessions do not go together.
    """
    trials = Trials(sessions, condition)
    search = Search(trials, before, num_draws, seed)
    folds = deal_out(len(sessions), num_folds, seed)

    def found(tuned: PostprocessConfig, left_out: Floats | None = None, **more: bool) -> Tuning:
        return Tuning(
            condition,
            [session.session_id for session in sessions],
            before,
            tuned,
            _errors(trials.scored, trials.errors(before)),
            _errors(trials.scored, trials.errors(tuned)),
            None if left_out is None else _errors(trials.scored, left_out),
            len(folds),
            search.num_tried,
            seed,
            **more,
        )

    search.wrong(search.start)  # whatever interrupts, there is a best so far
    try:
        with progress(num_draws, "settings drawn", show) as advance:
            for _ in search.draw():
                advance(1)
        with progress(1 + len(folds), "searches", show) as advance:
            best = to_config(search.best(np.ones(len(sessions), dtype=bool)))
            advance(1)
            keep(found(best))
            left_out = np.zeros((len(sessions), 3))
            for fold in folds:
                own = to_config(search.best(~fold))
                left_out[fold] = trials.errors(own)[fold]
                advance(1)
    except KeyboardInterrupt:
        return found(to_config(search.best_so_far()), interrupted=True)
    return found(best, left_out if folds else None)


def deal_out(num_sessions: int, num_folds: int, seed: int) -> list[NDArray[np.bool_]]:
    """(session,) for each fold, whether a session is left out in it; none for a single session."""
    num_folds = min(num_folds, num_sessions)
    if num_folds < 2:
        return []
    numbers = np.random.default_rng(seed).permutation(num_sessions) % num_folds
    return [numbers == fold for fold in range(num_folds)]


def _errors(scored: Floats, parts: Floats) -> list[DiarizationError]:
    rows = np.column_stack([scored, parts]).tolist()
    return [DiarizationError(*row) for row in rows]


def _wrong(error: DiarizationError) -> float:
    return error.miss + error.false_alarm + error.confusion
