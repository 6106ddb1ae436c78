"""What is true of a session: who spoke when, and which regions count."""

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from diarize.errors import ManifestError
from diarize.formats.rttm import Columns, RttmFile, read_rttm, read_rttm_file
from diarize.formats.uem import read_uem
from diarize.manifest.session import Session
from diarize.recording import open_recording
from diarize.turns import Segment, Turn, clip

Content = TypeVar("Content")


def reference_turns(session: Session) -> list[Turn]:
    """Who spoke when in a session: its turns, clipped to its span, in seconds of the recording.

    An RTTM without any turn means that nobody speaks.

    Raises:
        ManifestError: if the session has no RTTM, or the RTTM has other sessions only.
        RttmError: if the RTTM cannot be read.
    """
    rttm = _rttm(session)
    turns = find(session, rttm, _read(read_rttm, rttm, _stamp(rttm))) or []
    return clip(turns, session.offset, session.end)


def reference_file(session: Session) -> tuple[RttmFile, Columns]:
    """A session's RTTM, and the session's turns in it, also those outside of its span.

    Raises:
        ManifestError: if the session has no RTTM, or the RTTM has other sessions only.
        RttmError: if the RTTM cannot be read.
    """
    rttm = _rttm(session)
    file = _read(read_rttm_file, rttm, _stamp(rttm))
    return file, find(session, rttm, file.sessions) or Columns.of(())


def scored_regions(session: Session) -> list[Segment] | None:
    """Regions of a session that are scored, within its span, in seconds of the recording.

    Without a UEM the span itself is scored; None where that is the whole recording.

    Raises:
        ManifestError: if the UEM has other sessions only.
        RttmError: if the UEM cannot be read.
        DiarizeError: if only the recording knows where the span ends and it cannot be read.
    """
    if session.uem is not None:
        regions = find(session, session.uem, _read(read_uem, session.uem, _stamp(session.uem)))
        return within_span(session, regions or [])
    if session.duration is None and session.offset == 0:
        return None
    end = session.end
    if session.duration is None:
        end = open_recording(session.audio, session.frame_shift).duration
    return [Segment(session.offset, end)]


def within_span(session: Session, regions: Iterable[Segment]) -> list[Segment]:
    """What of regions lies in the span of a session, in seconds of the recording."""
    cut = (Segment(max(r.start, session.offset), min(r.end, session.end)) for r in regions)
    return [region for region in cut if region.end > region.start]


def find(session: Session, path: Path, sessions: Mapping[str, Content]) -> Content | None:
    """What a file holds for one session; None where it is empty.

    Raises:
        ManifestError: if the file has other sessions only.
    """
    if sessions and session.session_id not in sessions:
        names = ", ".join(repr(name) for name in list(sessions)[:3])
        more = f" and {len(sessions) - 3} more" if len(sessions) > 3 else ""
        raise ManifestError(
            f"{session.where}: session {session.session_id!r} is not in {path}, which has "
            f"{names}{more}. Give the line the 'session_id' that stands there."
        )
    return sessions.get(session.session_id)


def _rttm(session: Session) -> Path:
    if session.rttm is None:
        raise ManifestError(
            f"{session.where}: session {session.session_id!r} has no 'rttm_filepath', but a "
            "reference is needed. Add the key."
        )
    return session.rttm


@lru_cache(maxsize=64)
def _read(read: Callable[[Path], Content], path: Path, stamp: tuple[int, int] | None) -> Content:
    """A file as it was at its stamp: many sessions may share one."""
    return read(path)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Time of change and size; None for a file that reading will report as missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
