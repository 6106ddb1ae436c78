"""Turns, recordings and posteriors of any number of sessions, as one page."""

import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from diarize.errors import ConfigError
from diarize.files import replacing
from diarize.manifest import Session
from diarize.progress import progress
from diarize.score import (
    CONDITIONS,
    Condition,
    DiarizationError,
    ScoreReport,
    error_spans,
    score_sessions,
)
from diarize.turns import Segment, Turn
from diarize.view.material import Material, collect
from diarize.view.page import PageWriter
from diarize.view.scene import Scene
from diarize.view.sound import LEAST_BITRATE, Sound, bitrate_for, hear

LARGEST_PAGE = 400 * 2**20
"""Bytes of sound as text: few browsers open more."""


def write_page(
    destination: str | Path,
    hypotheses: Mapping[str, Sequence[Turn]],
    references: Mapping[str, Sequence[Turn]] | None = None,
    condition: Condition = CONDITIONS["full"],
    uems: Mapping[str, Sequence[Segment] | None] | None = None,
    recordings: Mapping[str, Session] | None = None,
    posteriors: Mapping[str, Path] | None = None,
    allow_missing: bool = False,
    show: bool = False,
) -> None:
    """Write one page that shows sessions over time, the worst first; whole or not at all.

    Args:
        destination: an HTML file; one that is there is replaced.
        hypotheses: session id -> turns by a system. All of these are shown.
        references: session id -> turns in truth; None shows no errors.
        condition: under which errors are counted.
        uems: session id -> scored regions, as `score_sessions` takes them.
        recordings: session id -> its recording, which is drawn and played; None shows turns alone.
        posteriors: session id -> its file, as ``diarize infer --posteriors`` writes it.
        allow_missing: count a session that the references lack as all false alarm.
        show: tell on standard error how far it is.

    Raises:
        OSError: if the page cannot be written, before anything else takes its time.
        ScoreError: if the references lack a session.
        AudioError: if a recording cannot be read, or ends before its turns.
        PosteriorError: if posteriors cannot be read, or are not those of the session.
        ConfigError: if it would be larger than browsers open.
    """
    with replacing(destination) as place:
        report = _score(hypotheses, references, condition, uems, allow_missing)
        material = [
            collect(
                name,
                hypotheses[name],
                (references or {}).get(name, ()),
                (recordings or {}).get(name),
                (posteriors or {}).get(name),
            )
            for name in _worst_first(hypotheses, report)
        ]
        seconds = sum(item.heard.duration for item in material)
        _refuse_larger(destination, seconds)
        title = material[0].session_id if len(material) == 1 else f"{len(material)} sessions"
        with place.open("wb") as file, progress(seconds, "seconds of sound", show) as tell:
            page = PageWriter(file, title)
            sounds = _sounds(material, bitrate_for(seconds), tell)
            for number, (item, sound) in enumerate(zip(material, sounds, strict=True)):
                regions = (uems or {}).get(item.session_id)
                errors, mapping = [], None
                if report is not None:
                    errors = error_spans(item.reference, item.hypothesis, condition, regions)
                    mapping = report.scores[item.session_id].mapping
                scene = Scene(item, mapping, errors, regions, sound)
                page.add_session(number, scene.to_plain(), None if sound is None else sound.ogg)
            page.close(
                _front(material, report, sorted((references or {}).keys() - set(hypotheses)))
            )


def _sounds(
    material: Sequence[Material], bitrate: int, tell: Callable[[float], None]
) -> Iterator[Sound | None]:
    """What is heard of each session: as many at a time as there are processors."""
    lock = threading.Lock()

    def tell_alone(seconds: float) -> None:
        with lock:
            tell(seconds)

    def heard(item: Material) -> Sound | None:
        if item.recording is None:
            return None
        return hear(item.recording, item.heard, bitrate, tell_alone)

    pool = ThreadPoolExecutor(os.cpu_count())  # libsndfile encodes without Python's lock
    try:
        yield from pool.map(heard, material)
    finally:
        pool.shutdown(cancel_futures=True)


def _score(
    hypotheses: Mapping[str, Sequence[Turn]],
    references: Mapping[str, Sequence[Turn]] | None,
    condition: Condition,
    uems: Mapping[str, Sequence[Segment] | None] | None,
    allow_missing: bool,
) -> ScoreReport | None:
    """The errors of the hypotheses' sessions; None without references."""
    if references is None:
        return None
    asked = {name: references[name] for name in hypotheses if name in references}
    regions = None if uems is None else {n: uems[n] for n in hypotheses if n in uems}
    return score_sessions(asked, hypotheses, condition, regions, allow_missing)


def _worst_first(hypotheses: Mapping[str, Sequence[Turn]], report: ScoreReport | None) -> list[str]:
    """Session ids by falling error; by name where it is equal, or nobody knows it."""
    if report is None:
        return sorted(hypotheses)
    return sorted(hypotheses, key=lambda name: (-report.scores[name].error.der, name))


def _refuse_larger(destination: str | Path, seconds: float) -> None:
    size = seconds * bitrate_for(seconds) / 8 * 4 / 3
    if size > LARGEST_PAGE:
        raise ConfigError(
            f"{destination}: {seconds / 3600:.0f} h of sound at {LEAST_BITRATE / 1000:g} kbit/s "
            f"make a page of {size / 2**20:.0f} MiB, but browsers open few above "
            f"{LARGEST_PAGE / 2**20:.0f}. View fewer sessions, or leave the audio out."
        )


def _front(
    material: Sequence[Material], report: ScoreReport | None, unanswered: Sequence[str]
) -> dict[str, Any]:
    """What stands above the sessions, and a line for each."""
    page: dict[str, Any] = {"sessions": [], "total": {}, "condition": None}
    scores = [] if report is None else [report.scores[item.session_id] for item in material]
    for number, item in enumerate(material):
        line: dict[str, Any] = {"number": number, "session_id": item.session_id}
        if report is not None:
            line |= _percent(scores[number].error)
            line["num_reference"] = scores[number].num_reference_speakers
            line["num_hypothesis"] = scores[number].num_hypothesis_speakers
        else:
            line["num_hypothesis"] = len({turn.speaker for turn in item.hypothesis})
        line["num_turns"] = len(item.hypothesis)
        line["duration"] = round(item.span.duration, 3)
        page["sessions"].append(line)
    if report is not None:
        notes = list(report.notes)
        if unanswered:
            count = f"{len(unanswered)} session{'s' if len(unanswered) > 1 else ''} more"
            named = ", ".join(repr(name) for name in unanswered[:5])
            more = ", ..." if len(unanswered) > 5 else ""
            notes.append(f"the reference has {count} ({named}{more}); not shown")
        page["total"] = _percent(sum((s.error for s in scores), DiarizationError()))
        lines = [f"condition: {report.condition}", f"scored region: {report.scored_region}"]
        page["condition"] = "\n".join([*lines, *(f"note: {note}" for note in notes)])
    return page


def _percent(error: DiarizationError) -> dict[str, float | None]:
    """The error and its parts in percent, None where that is infinite; scored seconds."""
    parts = {
        "der": error.der,
        "miss": error.part(error.miss),
        "false_alarm": error.part(error.false_alarm),
        "confusion": error.part(error.confusion),
    }
    shown = {name: 100 * part if math.isfinite(part) else None for name, part in parts.items()}
    return {**shown, "scored": round(error.scored, 3)}
