"""Turns and regions as verbs are given them: a file, a folder of files, or a manifest."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from diarize.errors import RttmError, ScoreError
from diarize.turns import Segment, Turn

if TYPE_CHECKING:
    from diarize.formats.rttm import Columns, RttmFile

Content = TypeVar("Content")

MANIFESTS = (".jsonl", ".json")

STANDARD_INPUT = Path("/dev/stdin")


@dataclass
class Side:
    """Turns of one side, and the files that they were read from.

    Attributes:
        sessions: session id -> turns.
        files: path -> SHA-256.
        passed_over: type of line, or ";" of comments -> how many hold no turn.
        made_by: what JSON says of its making, each with ``num_files``.
    """

    sessions: "dict[str, Columns]" = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    passed_over: Counter[str] = field(default_factory=Counter)
    made_by: list[dict[str, Any]] = field(default_factory=list)

    def note(self, path: Path, file: "RttmFile") -> None:
        """Count a file that was read, once."""
        if str(path) not in self.files:
            self.files[str(path)] = file.sha256
            self.passed_over += file.passed_over


@dataclass
class Regions:
    """Scored regions, and the files that they were read from.

    Attributes:
        sessions: session id -> regions, None where nobody says them; None where nobody says any.
        files: path -> SHA-256.
        channels: sessions of which several channels have regions, and not the same ones.
    """

    sessions: dict[str, list[Segment] | None] | None = None
    files: dict[str, str] = field(default_factory=dict)
    channels: list[str] = field(default_factory=list)

    def read(self, path: Path) -> dict[str, list[Segment]]:
        """Regions of a file, which is noted."""
        from diarize.formats.uem import read_uem_file

        file = read_uem_file(path)
        self.files[str(path)] = file.sha256
        found: dict[str, dict[str, list[Segment]]] = {}
        for line in file.lines:
            found.setdefault(line.session_id, {}).setdefault(line.channel, []).append(line.segment)
        for name, of in found.items():
            if any(sorted(of_one) != sorted(next(iter(of.values()))) for of_one in of.values()):
                self.channels.append(name)
        return {name: sum(of.values(), []) for name, of in found.items()}


def read_turns(place: str, references: Iterable[str] = ()) -> dict[str, list[Turn]]:
    """Session id -> turns, from RTTM files, a folder of them, a manifest, or `infer`'s JSON."""
    from diarize.formats.json import read_json
    from diarize.formats.rttm import read_rttm
    from diarize.manifest import read_manifest, reference_turns

    if place.endswith(MANIFESTS) and (answers := read_json(place)) is not None:
        return answers
    if place.endswith(MANIFESTS):
        whole: dict[str, list[Turn]] = {}
        for session in read_manifest(place):  # several lines may be windows of one session
            whole.setdefault(session.session_id, []).extend(reference_turns(session))
        return whole
    nobody: list[Turn] = []
    found = gather(STANDARD_INPUT if place == "-" else Path(place), ".rttm", read_rttm, nobody)
    return _answering(found, list(references), any(found.values()))


def read_side(place: str, references: Iterable[str] = ()) -> Side:
    """Turns as they are written, whatever the spans of a manifest, and where they stand.

    Args:
        place: RTTM file, folder of them, manifest, `infer`'s JSON, or "-".
        references: sessions of the other side, where that was read before.
    """
    from diarize.formats.json import read_sessions, turns_of
    from diarize.formats.rttm import Columns, read_rttm_file
    from diarize.manifest import read_manifest, reference_file

    side = Side()
    if place.endswith(MANIFESTS) and (answers := read_sessions(place)) is not None:
        side.sessions = {name: Columns.of(turns) for name, turns in turns_of(answers).items()}
        side.files[place] = _sha256(place)
        said = (values.get("made_by") for _, values in answers.values())
        for making in said:
            if isinstance(making, dict) and "model" in making:
                making = {**making, "num_files": 1}
                side.made_by += [making] * (making not in side.made_by)
        return side
    if place.endswith(MANIFESTS):
        pieces: dict[str, dict[Path | None, Columns]] = {}
        for session in read_manifest(place):  # several lines may be windows of one session
            file, turns = reference_file(session)
            pieces.setdefault(session.session_id, {})[session.rttm] = turns
            side.note(Path(session.rttm or ""), file)
        side.sessions = {n: Columns.joined(list(of.values())) for n, of in pieces.items()}
        return side

    def read(path: Path) -> dict[str, Columns]:
        file = read_rttm_file(path)
        side.note(path, file)
        return file.sessions

    nobody = Columns.of(())
    found = gather(STANDARD_INPUT if place == "-" else Path(place), ".rttm", read, nobody)
    spoken = any(turns.start.size for turns in found.values())
    side.sessions = _answering(found, list(references), spoken)
    return side


def read_regions(uem: Path | None, reference: str, hypotheses: Iterable[str]) -> Regions:
    """Scored regions of a UEM, or of a manifest; of both, what lies in the manifest's spans."""
    from diarize.formats.json import read_sessions
    from diarize.manifest import read_manifest, scored_regions, within_span

    regions = Regions()
    nowhere: list[Segment] = []
    given = None if uem is None else gather(uem, ".uem", regions.read, nowhere)
    if not reference.endswith(MANIFESTS) or read_sessions(reference) is not None:
        regions.sessions = None if given is None else {**given}
        return regions
    known: dict[str, list[Segment] | None] = {}
    regions.files[reference] = _sha256(reference)  # whose spans they are
    for session in read_manifest(reference):
        if given is None:
            found = scored_regions(session)
            if session.uem is not None and str(session.uem) not in regions.files:
                regions.read(session.uem)
        elif session.session_id in given:  # what lies outside the span is another session's
            found = within_span(session, given[session.session_id])
        else:
            continue
        earlier = known.get(session.session_id, [])
        whole = None if earlier is None or found is None else [*earlier, *found]
        known[session.session_id] = whole
    regions.sessions = {**(dict.fromkeys(hypotheses) if given is None else given), **known}
    return regions


def gather(
    place: Path,
    suffix: str,
    read: Callable[[Path], Mapping[str, Content]],
    nothing: Content,
) -> dict[str, Content]:
    """Sessions of a file, or of all files below a folder; an empty file is a silent session.

    Args:
        place: file or folder.
        suffix: of the files.
        read: a file to its sessions.
        nothing: what a silent session has.
    """
    if not place.is_dir():
        return {**read(place)} or {place.stem: nothing}
    files = sorted(place.rglob(f"*{suffix}"))
    if not files:
        raise RttmError(
            f"{place}: holds no {suffix} file, but at least one is needed. Check the path."
        )
    sessions: dict[str, Content] = {}
    source: dict[str, Path] = {}
    for file in files:
        for name, stretches in (read(file) or {file.stem: nothing}).items():
            if name in sessions:
                raise ScoreError(
                    f"{file}: holds session {name!r}, but so does {source[name]}. "
                    "Leave one of them out."
                )
            sessions[name], source[name] = stretches, file
    return sessions


def _answering(
    found: dict[str, Content], references: list[str], spoken: bool
) -> dict[str, Content]:
    """One answer without turns to one question: nobody speaks, whatever the file is called."""
    if spoken or len(references) != 1 or len(found) != 1:
        return found
    return {references[0]: next(iter(found.values()))}


def _sha256(path: str) -> str:
    """Of the bytes of a file, hexadecimal."""
    from hashlib import sha256

    from diarize.files import read_bytes

    return sha256(read_bytes(path, RttmError)).hexdigest()
