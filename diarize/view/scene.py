"""A session as a page shows it: lanes side by side, one colour for who is taken to be the same."""

import base64
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diarize.picture import COLORS
from diarize.score import ErrorSpan
from diarize.turns import Segment, Turn, in_order
from diarize.view.material import Material
from diarize.view.sound import Sound

UNMAPPED = "#8a8f98"
"""Colour of hypothesis speakers whom no reference speaker stands for."""


@dataclass(frozen=True)
class Scene:
    """A session, scored and heard.

    Attributes:
        material: its turns and posteriors.
        mapping: hypothesis speaker -> the reference speaker taken to be the same; None where there
            is no reference.
        errors: where it is wrong, by start.
        regions: scored regions; None where these are the extents of the turns.
        sound: what is heard; None draws turns alone.
    """

    material: Material
    mapping: Mapping[str, str] | None = None
    errors: Sequence[ErrorSpan] = ()
    regions: Sequence[Segment] | None = None
    sound: Sound | None = None

    def to_plain(self) -> dict[str, Any]:
        """What the page's script reads: times in seconds, bytes deflated and in base64."""
        span, posteriors = self.material.span, self.material.posteriors
        plain: dict[str, Any] = {
            "start": _time(span.start),
            "end": _time(span.end),
            "scored": self.mapping is not None,
            "lanes": self._lanes(),
            "errors": [
                [_time(e.start), _time(e.end), e.kind, e.count, e.reference, e.hypothesis]
                for e in self.errors
            ],
            "regions": None,
        }
        if self.regions is not None:
            plain["regions"] = sorted((_time(r.start), _time(r.end)) for r in self.regions)
        if self.sound is not None:
            plain["heard"] = "features" if self.sound.ogg is None else "sound"
            values = _packed(self.sound.peaks)
            plain["peaks"] = {"per_second": self.sound.peaks_per_second, "values": values}
        if posteriors is not None:
            levels = np.round(posteriors.posterior.T * 255).astype(np.uint8)
            plain["posterior"] = {
                "start": _time(self.material.session.start),
                "frame_shift": posteriors.frame_shift,
                "num_slots": len(levels),
                "values": _packed(levels),
            }
        return plain

    def _lanes(self) -> list[dict[str, Any]]:
        """Each reference speaker above who is mapped to him or her; then who is left over."""
        truths = _by_speaker(self.material.reference)
        found = _by_speaker(self.material.hypothesis)
        answers = {truth: name for name, truth in (self.mapping or {}).items()}
        pairs: list[tuple[str | None, str | None]]
        pairs = [(truth, answers.get(truth)) for truth in truths]
        pairs += [(None, name) for name in found if name not in answers.values()]
        slots = self._slots()
        lanes = []
        for group, (truth, name) in enumerate(pairs):
            color = COLORS[group % len(COLORS)]
            if truth is None and self.mapping is not None:
                color = UNMAPPED
            if truth is not None:
                lanes.append(_lane("reference", truth, color, group, turns=truths[truth]))
            if name is not None:
                slot = slots.pop(name, None)
                lanes.append(_lane("hypothesis", name, color, group, slot, found[name]))
        for slot in slots.values():
            lanes.append(_lane("slot", f"slot {slot}", UNMAPPED, len(pairs), slot))
        return lanes

    def _slots(self) -> dict[str, int]:
        """Name that a slot's turns have -> the slot."""
        posteriors = self.material.posteriors
        number = 0 if posteriors is None else posteriors.posterior.shape[1]
        return {f"speaker_{slot}": slot for slot in range(number)}


def _lane(
    side: str,
    name: str,
    color: str,
    group: int,
    slot: int | None = None,
    turns: Sequence[Turn] = (),
) -> dict[str, Any]:
    times = [_time(time) for turn in turns for time in (turn.start, turn.end)]
    known = {"side": side, "name": name, "color": color, "group": group}
    return {**known, "slot": slot, "turns": times}


def _by_speaker(turns: Sequence[Turn]) -> dict[str, list[Turn]]:
    """Speakers in order of arrival, and the turns of each by start."""
    speakers: dict[str, list[Turn]] = {}
    for turn in in_order(turns):
        speakers.setdefault(turn.speaker, []).append(turn)
    return speakers


def _time(seconds: float) -> float:
    return round(float(seconds), 3)


def _packed(values: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(zlib.compress(values.tobytes(), 9)).decode("ascii")
