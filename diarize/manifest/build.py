"""Sessions for recordings as they lie on disk."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from diarize.audio import audio_info
from diarize.errors import DiarizeError, ManifestError
from diarize.formats.rttm import check_name, read_rttm
from diarize.formats.uem import read_uem
from diarize.manifest.session import Session

AUDIO_SUFFIXES = frozenset(
    (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au", ".caf", ".sph")
    + (".w64", ".rf64", ".m4a", ".aac", ".mp4", ".wma", ".webm", ".amr", ".mka", ".mkv", ".mov")
)
"""File name endings that mean audio where a folder is searched."""


def build_manifest(
    audio: Sequence[str | Path],
    rttm: str | Path | None = None,
    uem: str | Path | None = None,
) -> list[Session]:
    """Sessions for recordings, each named after its file, in the order of the arguments.

    A reference belongs to a recording if it bears the recording's name, ``<name>.rttm``, or
    holds that name as a session id. Where the one session in ``<name>.rttm`` is called
    otherwise, the recording's session takes that id; scored regions must then bear it too.

    Args:
        audio: recordings, and folders that are searched for them.
        rttm: folder of RTTM files, or one file for all.
        uem: the same for UEM.

    Raises:
        ManifestError: if nothing is found, a recording has no reference although references
            are given, or two recordings share a name.
        AudioError: if a recording cannot be read.
        RttmError: if a reference cannot be read.
    """
    turns = None if rttm is None else _Annotations(Path(rttm), ".rttm", read_rttm)
    regions = None if uem is None else _Annotations(Path(uem), ".uem", read_uem)
    sessions: dict[str, Session] = {}
    for path in _recordings(audio):
        session_id, rttm_path, uem_path, speakers = path.stem, None, None, None
        if turns is not None:
            rttm_path, session_id = turns.find(path.stem, renames=True)
            found = turns.read(rttm_path).get(session_id, []) if rttm_path else []
            speakers = len({turn.speaker for turn in found})
        if regions is not None:
            uem_path, _ = regions.find(session_id)
        session = Session(
            session_id,
            path,
            duration=round(audio_info(path).duration, 6) or None,
            rttm=rttm_path,
            uem=uem_path,
            num_speakers=speakers,
            extra={"label": "infer", "text": "-"},
            where=str(path),
        )
        _check_id(session, sessions)
        sessions[session_id] = session
    for annotations in (turns, regions):
        if annotations is not None:
            annotations.refuse_missing()
    return list(sessions.values())


def _recordings(audio: Sequence[str | Path]) -> Iterator[Path]:
    """Every recording once; what a folder holds is sorted."""
    seen = set()
    for given in map(Path, audio):
        found = [given]
        if given.is_dir():
            files = (p for p in sorted(given.rglob("*")) if p.suffix.lower() in AUDIO_SUFFIXES)
            found = [p for p in files if not p.name.startswith(".") and p.is_file()]
            if not found:
                raise ManifestError(
                    f"{given}: this folder has no recordings; they are known by their endings, "
                    f"{', '.join(sorted(AUDIO_SUFFIXES))}. Name the files themselves."
                )
        for path in found:
            if path.resolve() not in seen:
                seen.add(path.resolve())
                yield path


def _check_id(session: Session, others: Mapping[str, Session]) -> None:
    try:
        check_name("session id", session.session_id)
    except DiarizeError as error:
        raise ManifestError(f"{session.where}: {error} Rename the file.") from None
    if session.session_id in others:
        raise ManifestError(
            f"{session.where}: its session would be {session.session_id!r}, as that of "
            f"{others[session.session_id].where} is, but ids must differ. Rename one of them."
        )


class _Annotations:
    """A folder of RTTM or UEM files, found by the name of the file or by the ids inside."""

    def __init__(
        self, place: Path, suffix: str, read: Callable[[Path], dict[str, list[Any]]]
    ) -> None:
        self.place, self.suffix, self.missing = place, suffix, list[str]()
        files = [place] if place.is_file() else sorted(place.rglob(f"*{suffix}"))
        if not files:
            raise ManifestError(
                f"{place}: has no *{suffix} file, but references are sought there. Check the path."
            )
        self._by_name: dict[str, list[Path]] = {}
        for path in files:
            self._by_name.setdefault(path.stem, []).append(path)
        self._read = read
        self._contents: dict[Path, dict[str, list[Any]]] = {}

    def read(self, path: Path) -> dict[str, list[Any]]:
        """Session id -> what the file holds for it; each file is read once."""
        if path not in self._contents:
            self._contents[path] = self._read(path)
        return self._contents[path]

    def find(self, name: str, renames: bool = False) -> tuple[Path | None, str]:
        """The file for a name, and the session id it has there; a missing one is remembered.

        Args:
            name: of the file, or a session id inside.
            renames: whether the only id in a file of that name will do.
        """
        ids: list[str] = []
        if named := self._only(name, self._by_name):
            ids = list(self.read(named))
            if name in ids or not ids:
                return named, name
            if renames and len(ids) == 1:
                return named, ids[0]
        if holding := self._only(name, self._by_id):
            return holding, name
        held = ", ".join(repr(known) for known in ids[:3])
        self.missing.append(f"{name!r} ({named} has {held})" if named else repr(name))
        return None, name

    def refuse_missing(self) -> None:
        """Report all names for which nothing was found."""
        if self.missing:
            names = ", ".join(self.missing[:5])
            more = f" and {len(self.missing) - 5} more" if len(self.missing) > 5 else ""
            raise ManifestError(
                f"{self.place}: no {self.suffix} file here has the session id {names}{more}. "
                "Add it, mend the id, or leave the recording out."
            )

    def _only(self, name: str, places: Mapping[str, list[Path]]) -> Path | None:
        paths = places.get(name, [])
        if len(paths) > 1:
            raise ManifestError(
                f"{self.place}: {name!r} is in {paths[0]} and in {paths[1]}, but one reference is "
                "needed. Name a folder that has only one of them."
            )
        return paths[0] if paths else None

    @cached_property
    def _by_id(self) -> dict[str, list[Path]]:
        places: dict[str, list[Path]] = {}
        for path in (path for paths in self._by_name.values() for path in paths):
            for name in self.read(path):
                places.setdefault(name, []).append(path)
        return places
