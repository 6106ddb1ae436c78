"""What produced a result: sides, regions, tools and command; and in what two of them differ."""

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from diarize.formats.rttm import Columns
from diarize.score.report import counted
from diarize.turns import Segment

TOOLS = ("diarize", "numpy", "scipy")
"""Packages that scores come from."""


@dataclass(frozen=True)
class Source:
    """Where turns or regions came from.

    Attributes:
        place: as it was given.
        sha256: of all turns or regions by session, in whichever files and order they stand.
        files: path -> SHA-256 of each file that was read.
        made_by: records of what made the files, where one lay beside them; each has ``num_files``.
    """

    place: str
    sha256: str
    files: dict[str, str] = field(default_factory=dict)
    made_by: list[dict[str, Any]] = field(default_factory=list)

    def in_words(self) -> str:
        """A line of text."""
        return f"{self.place}, {counted(len(self.files), 'file')}, sha256 {self.sha256[:12]}"

    def makers(self) -> list[str]:
        """Who made how many files, with which settings, a line for each."""
        return [f"made by: {_made_by(record)}" for record in self.made_by]


@dataclass(frozen=True)
class Passport:
    """What produced a result.

    Attributes:
        reference: who spoke when in truth.
        hypothesis: who spoke when by a system.
        region: scored regions; None where they are the union of both extents.
        scored_region: the same in words.
        num_sessions: that were scored.
        environment: versions, commit, machine and command.
    """

    reference: Source
    hypothesis: Source
    region: Source | None
    scored_region: str
    num_sessions: int
    environment: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Passport":
        """What ``to_dict`` gave.

        Raises:
            TypeError: if the values are others.
        """
        region = values["region"]
        return cls(
            Source(**values["reference"]),
            Source(**values["hypothesis"]),
            None if region is None else Source(**region),
            values["scored_region"],
            values["num_sessions"],
            values["environment"],
        )

    def lines(self) -> list[str]:
        """A few lines of text: sides, who made the hypothesis, tools, command."""
        packages, commit = self.environment["packages"], self.environment["commit"]
        tools = ", ".join(f"{name} {packages[name]}" for name in TOOLS)
        command = shlex.join(["diarize", *self.environment["command"][1:]])
        lines = [f"reference: {self.reference.in_words()}"]
        if self.region is not None:
            lines.append(f"regions: {self.region.in_words()}")
        lines.append(f"hypothesis: {self.hypothesis.in_words()}")
        lines += [f"made by: {_made_by(record)}" for record in self.hypothesis.made_by]
        tools += f", commit {commit[:12]}" if commit else ""
        return [*lines, f"scored by: {tools}", f"command: {command}"]

    def differences(self, other: "Passport") -> list[str]:
        """In what two results differ that should agree to be compared, conditions apart."""
        lines = []
        if self.reference.sha256 != other.reference.sha256:
            lines.append(f"reference: {_named(self.reference)}, not {_named(other.reference)}")
        regions = [(p.scored_region, p.region and p.region.sha256) for p in (self, other)]
        if regions[0] != regions[1]:
            here, there = (
                p.scored_region if p.region is None else f"{p.scored_region} ({_named(p.region)})"
                for p in (self, other)
            )
            lines.append(f"scored region: {here}, not {there}")
        return lines


def digest(sessions: Mapping[str, Columns]) -> str:
    """SHA-256 of the turns of one side, in whichever order they stand."""
    whole = hashlib.sha256()
    for name in sorted(sessions):
        whole.update(_bytes(name, sessions[name]))
    return whole.hexdigest()


def digest_regions(regions: Mapping[str, Sequence[Segment] | None]) -> str:
    """SHA-256 of the regions of all sessions."""
    whole = hashlib.sha256()
    for name in sorted(regions):
        region = regions[name]
        edges = None if region is None else sorted((r.start, r.end) for r in region)
        whole.update(f"{name}\0{edges}\n".encode())
    return whole.hexdigest()


def _bytes(name: str, turns: Columns) -> bytes:
    """A session by its times in microseconds and its speakers."""
    speakers, who = turns.numbered()
    order = np.lexsort((who, turns.end, turns.start))
    times = np.rint(1e6 * np.stack([turns.start, turns.end]))[:, order].astype("<i8")
    heading = "\0".join([name, str(who.size), *speakers]).encode()
    return heading + b"\n" + times.tobytes() + who[order].astype("<i8").tobytes()


def _named(source: Source) -> str:
    return f"{source.place}, sha256 {source.sha256[:12]}"


def _made_by(record: Mapping[str, Any]) -> str:
    """Who made how many files, with which settings."""
    number = counted(record["num_files"], "file")
    if "model" not in record:
        return f"nobody knows ({number})"
    settings = record["inference"]
    said = {"latency": settings["latency"], **settings["postprocess"]}
    chosen = ", ".join(f"{name} {value}" for name, value in said.items())
    return f"model {record['model']}, {chosen} ({number})"
