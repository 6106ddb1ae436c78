"""Both sides of a comparison, session by session, and all that is odd about them.

What cannot be compared is refused; what can but may surprise is told in notes. Nothing is left out
without a word.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from diarize.errors import ScoreError
from diarize.formats.rttm import Columns
from diarize.score.mapping import INSTANT
from diarize.score.report import counted, listed
from diarize.score.resample import Floats
from diarize.score.timeline import Turns, columns
from diarize.turns import Segment

ENDINGS = re.compile(r"\.(flac|m4a|mp3|mp4|ogg|opus|rttm|sph|uem|wav|webm)$")
"""Of file names that may stand where a session id belongs."""

FAR = 100.0
"""How many times as late one side may end as the other before it is told."""


@dataclass(frozen=True)
class Pairing:
    """Sessions of the same id, in order of their ids.

    Attributes:
        references: session id -> turns in truth.
        hypotheses: session id -> turns by a system.
        regions: session id -> scored regions; None stands for the union of both extents.
        notes: in words, what the reader must know besides.
    """

    references: dict[str, Columns]
    hypotheses: dict[str, Columns]
    regions: dict[str, Sequence[Segment] | None]
    notes: list[str]

    @property
    def scored_region(self) -> str:
        """Which stretches are scored, in words."""
        extents = "union of reference and hypothesis extents"
        given = sum(region is not None for region in self.regions.values())
        if given in (0, len(self.regions)):
            return "as given by UEM or manifest" if given else extents
        left = counted(len(self.regions) - given, "session")
        return f"as given by UEM or manifest for {counted(given, 'session')}, {extents} for {left}"


def pair(
    references: Mapping[str, Turns],
    hypotheses: Mapping[str, Turns],
    uems: Mapping[str, Sequence[Segment] | None] | None = None,
    allow_missing: bool = False,
) -> Pairing:
    """See that both sides have the same sessions.

    The arguments are those of ``score_sessions``.

    Raises:
        ScoreError: if there are no sessions, one side lacks some, or the UEM does.
    """
    true = {name: columns(turns) for name, turns in references.items()}
    found = {name: columns(turns) for name, turns in hypotheses.items()}
    regions = None if uems is None else dict(uems)
    notes = _split_channels(true, found, regions)
    names = sorted(true.keys() | found.keys())
    if not names:
        raise ScoreError("there are no sessions to score. Do reference and hypothesis hold turns?")
    notes += _missing("hypothesis", "reference", found, true, "missed", allow_missing)
    notes += _missing("reference", "hypothesis", true, found, "false alarm", allow_missing)
    if regions is not None:
        notes += _unused(names, regions)
    pairing = Pairing(
        references={name: true.get(name, NOBODY) for name in names},
        hypotheses={name: found.get(name, NOBODY) for name in names},
        regions={name: None if regions is None else regions[name] for name in names},
        notes=notes,
    )
    notes += _outside("reference", pairing.references, pairing.regions)
    notes += _outside("hypothesis", pairing.hypotheses, pairing.regions)
    notes += _far(pairing)
    return pairing


NOBODY = Columns.of(())


def overlap_themselves(sessions: Mapping[str, Columns]) -> list[str]:
    """Sessions in which turns of one speaker overlap."""
    return [name for name, turns in sessions.items() if _overlaps_itself(turns)]


def _overlaps_itself(turns: Columns) -> bool:
    _, who = turns.numbered()
    # Of turns in order of their starts, two that overlap have neighbours between them that do.
    order = np.lexsort((turns.start, who))
    order = order[(turns.end > turns.start)[order]]
    start, end, who = turns.start[order], turns.end[order], who[order]
    return bool(((who[1:] == who[:-1]) & (start[1:] < end[:-1] - INSTANT)).any())


def _split_channels(
    true: dict[str, Columns],
    found: dict[str, Columns],
    regions: dict[str, Sequence[Segment] | None] | None,
) -> list[str]:
    """Make each channel a session where both sides have several, as md-eval does; notes."""
    split, joined = [], []
    for name in sorted(true.keys() & found.keys()):
        of_true, of_found = set(true[name].channels), set(found[name].channels)
        if max(len(of_true), len(of_found)) < 2:
            continue
        if min(len(of_true), len(of_found)) < 2:
            joined.append((name, len(of_true), len(of_found)))
            continue
        split.append(name)
        for side in (true, found):
            whole = side.pop(name)
            channels = np.array(whole.channels)
            for channel in of_true | of_found:
                of = np.flatnonzero(channels == channel)
                side[f"{name}:{channel}"] = Columns(
                    whole.start[of],
                    whole.end[of],
                    [whole.speakers[turn] for turn in of],
                    [channel] * of.size,
                )
        if regions is not None and name in regions:
            region = regions.pop(name)
            regions |= {f"{name}:{channel}": region for channel in of_true | of_found}
    notes = []
    if split:
        notes.append(
            f"in {counted(len(split), 'session')} {listed(split)} both sides have several "
            "channels; each channel is scored as a session, named SESSION:CHANNEL"
        )
    if joined:
        first, in_true, in_found = joined[0]
        more = f", and {counted(len(joined) - 1, 'session')} more likewise" * (len(joined) > 1)
        notes.append(
            f"session {first!r} has {counted(in_true, 'channel')} in the reference and {in_found} "
            f"in the hypothesis{more}; their channels are scored as one"
        )
    return notes


def _missing(
    side: str,
    other_side: str,
    has: Mapping[str, Columns],
    needs: Mapping[str, Columns],
    counted_as: str,
    allowed: bool,
) -> list[str]:
    """A note on the sessions that one side lacks, if they are allowed, else an error."""
    lacking = sorted(needs.keys() - has.keys())
    if not lacking:
        return []
    share = f"{counted(len(lacking), 'session')} of {len(needs)} in the {other_side}"
    hint = _hint(lacking, sorted(has.keys() - needs.keys()))
    if allowed:
        verb = "is" if len(lacking) == 1 else "are"
        note = f"{share} {verb} not in the {side}: all {counted_as} {listed(lacking)}"
        return [note + ("." + hint if hint else "")]
    raise ScoreError(
        f"the {side} lacks {share} {listed(lacking)}, but both sides must have the same "
        f"sessions.{hint} Complete it, or count them as all {counted_as} with --allow-missing."
    )


def _hint(lacking: Sequence[str], others: Sequence[str]) -> str:
    """Names that may mean the same sessions; begins with a space."""
    by_core = {_core(name): name for name in others}
    alike = [(name, by_core[_core(name)]) for name in lacking if _core(name) in by_core]
    if alike:
        name, other = alike[0]
        more = f", and {len(alike) - 1} more pairs like them" * (len(alike) > 1)
        kinds = " and ".join(_differences(name, other))
        return f" {name!r} and {other!r} differ by {kinds} alone{more}: name them alike."
    close = difflib.get_close_matches(lacking[0], others, n=1)
    return f" It has {close[0]!r}: the same session as {lacking[0]!r}?" if close else ""


def _core(name: str) -> str:
    """A session id without folder, extension and case."""
    return _parts(name)[1].lower()


def _differences(name: str, other: str) -> list[str]:
    """In what two names of one core differ."""
    folders, stems, endings = zip(_parts(name), _parts(other), strict=True)
    kinds = {"case": stems, "extension": endings, "path": folders}
    return [kind for kind, (one, another) in kinds.items() if one != another]


def _parts(name: str) -> tuple[str, str, str]:
    """Folder, stem and extension of what may be a file's name."""
    place = max(name.rfind("/"), name.rfind("\\")) + 1
    ending = ENDINGS.search(name.lower(), place)
    stop = len(name) if ending is None else ending.start()
    return name[:place], name[place:stop], name[stop:].lower()


def _unused(names: Sequence[str], regions: Mapping[str, Sequence[Segment] | None]) -> list[str]:
    """A note on regions of sessions that nobody has; an error where one has none."""
    unused = sorted(regions.keys() - set(names))
    lacking = [name for name in names if name not in regions]
    if lacking:
        raise ScoreError(
            f"{counted(len(lacking), 'session')} of {len(names)} to score {listed(lacking)}, "
            f"but the UEM names no region there.{_hint(lacking, unused)} Add the regions, or "
            "score without a UEM."
        )
    if not unused:
        return []
    return [
        f"the UEM names {counted(len(unused), 'session')} more {listed(unused)}, "
        "which neither side has; not scored"
    ]


def _outside(
    side: str, sessions: Mapping[str, Columns], regions: Mapping[str, Sequence[Segment] | None]
) -> list[str]:
    """A note on turns that lie outside the scored regions."""
    seconds, number, names = 0.0, 0, []
    for name, turns in sessions.items():
        region = regions[name]
        if region is None or not turns.start.size:
            continue
        left = turns.end - turns.start - _within(turns, region)
        beyond = left > INSTANT
        if beyond.any():
            seconds += float(left[beyond].sum())
            number += int(beyond.sum())
            names.append(name)
    if not names:
        return []
    return [
        f"{seconds:.2f} s in {counted(number, 'turn')} of the {side}, of "
        f"{counted(len(names), 'session')} {listed(names)}, lie outside the scored regions; "
        "not scored"
    ]


def _within(turns: Columns, regions: Sequence[Segment]) -> Floats:
    """(turn,), seconds that lie in regions, which may overlap."""
    joined: list[list[float]] = []
    for region in sorted(regions, key=lambda r: r.start):
        if joined and region.start <= joined[-1][1]:
            joined[-1][1] = max(joined[-1][1], region.end)
        else:
            joined.append([region.start, region.end])
    edges = np.array(joined, dtype=np.float64).reshape(-1, 2)
    # Seconds of regions before a time, at both ends of every turn.
    lengths = np.concatenate([[0.0], np.cumsum(edges[:, 1] - edges[:, 0])])
    spoken = np.zeros(turns.start.size)
    for times, sign in ((turns.end, 1.0), (turns.start, -1.0)):
        index = np.searchsorted(edges[:, 0], times, side="right")
        inside = np.minimum(times, edges[index - 1, 1]) - edges[index - 1, 0] if joined else 0.0
        spoken += sign * np.where(index > 0, lengths[index - 1] + inside, 0.0)
    return spoken


def _far(pairing: Pairing) -> list[str]:
    """A note on sessions of which one side ends long after the other."""
    found = []
    for name, turns in pairing.references.items():
        ends = [
            float(side.end.max()) if side.end.size else 0.0
            for side in (turns, pairing.hypotheses[name])
        ]
        if 0 < min(ends) * FAR < max(ends):
            found.append((name, *ends))
    if not found:
        return []
    first, true, by_system = found[0]
    more = f", and so in {counted(len(found) - 1, 'session')} more" if len(found) > 1 else ""
    return [
        f"session {first!r} ends at {true:.2f} s in the reference and at {by_system:.2f} s in the "
        f"hypothesis{more}: are the times of both seconds of the recording?"
    ]
