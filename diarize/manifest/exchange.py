"""What every way to another toolkit's manifest needs: names, spans and references."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from diarize.audio import TOLERANCE, AudioInfo, audio_info
from diarize.errors import ManifestError, RttmError
from diarize.files import write_text
from diarize.formats.rttm import check_name, format_rttm, read_rttm
from diarize.manifest.reference import find, reference_turns
from diarize.manifest.session import Session
from diarize.turns import Turn


def name_rttm(sessions: Sequence[Session], paths: Sequence[Path]) -> list[Session]:
    """The sessions with RTTM files that are there, one for each.

    Raises:
        ManifestError: if a file has other sessions only.
        RttmError: if one cannot be read.
    """
    contents = {path: read_rttm(path) for path in dict.fromkeys(paths)}
    named = []
    for session, path in zip(sessions, paths, strict=True):
        try:
            find(session, path, contents[path])
        except ManifestError as error:
            raise ManifestError(
                f"{error} If nobody speaks, give --write-rttm DIR: there it has an empty RTTM."
            ) from None
        named.append(_with_rttm(session, path, contents[path]))
    return named


def write_references(
    sessions: Sequence[Session], turns: Mapping[str, Sequence[Turn]], folder: str | Path
) -> list[Session]:
    """The sessions with RTTM files that are written, ``SESSION.rttm`` for each.

    Args:
        sessions: whatever RTTM they name is left alone.
        turns: by session id, in seconds of the recording; who has none is silent.
        folder: made if need be; nothing in it is overwritten with something else.

    Raises:
        ManifestError: for an id that cannot name a file, or a file that holds another reference.
        RttmError: for a speaker that RTTM cannot hold.
    """
    folder = Path(folder)
    texts: dict[Path, str] = {}
    for session in sessions:
        name = session.session_id
        if "/" in name:
            raise ManifestError(
                f"{session.where}: session id {name!r} holds '/', but it must name a file in "
                f"{folder}. Give another, for example {name.replace('/', '-')!r}."
            )
        path = folder / f"{name}.rttm"
        try:
            text = format_rttm(name, turns.get(name, ()))
        except RttmError as error:
            raise RttmError(f"{session.where}: {error}") from None
        if path in texts:
            raise ManifestError(
                f"{session.where}: session {name!r} is there already, but ids must differ. Remove "
                "one of them."
            )
        if path.exists() and path.read_bytes() != text.encode():
            raise ManifestError(
                f"{path}: holds another reference than that of {session.where}, but what is there "
                "is not overwritten. Name another folder."
            )
        texts[path] = text
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        write_text(path, text)
    return [_with_rttm(s, folder / f"{s.session_id}.rttm", turns) for s in sessions]


def references(sessions: Sequence[Session]) -> dict[str, list[Turn]]:
    """Session id to turns, clipped to the session, in seconds of the recording.

    Returns:
        Empty where no session has a reference.

    Raises:
        ManifestError: if some have one and others not, or one cannot be found in its RTTM.
        RttmError: if one cannot be read.
    """
    with_one = [session for session in sessions if session.rttm is not None]
    for session in sessions:
        if with_one and session.rttm is None:
            raise ManifestError(
                f"{session.where}: session {session.session_id!r} has no 'rttm_filepath', but "
                f"{len(with_one)} of {len(sessions)} have, and without turns it would be silent. "
                "Write two manifests."
            )
    return {session.session_id: reference_turns(session) for session in with_one}


def without_references(
    sessions: list[Session], where: str | Path, write_rttm: str | Path | None
) -> list[Session]:
    """The sessions as they are, nothing being known of who speaks.

    Args:
        sessions: without a reference.
        where: what they come from.
        write_rttm: folder for references; None where nobody asked for them.

    Raises:
        ManifestError: if they were asked for.
    """
    if write_rttm is not None:
        raise ManifestError(
            f"{where}: references are to be written to {write_rttm}, but nothing here says who "
            "speaks. Leave --write-rttm out."
        )
    return sessions


def all_utterances(sessions: Sequence[Session]) -> bool:
    """Whether the lines are single-speaker utterances; sessions otherwise.

    Raises:
        ManifestError: for no line, lines of both kinds, or features in place of audio.
    """
    if not sessions:
        raise ManifestError("the manifest has 0 lines, but at least 1 is handed on. Name another.")
    for session in sessions:
        if session.frame_shift is not None:
            raise ManifestError(
                f"{session.where}: has 'feature_filepath', but only recordings can be handed on. "
                "Give 'audio_filepath'."
            )
        if (session.speaker is None) != (sessions[0].speaker is None):
            has, other = ("has", "has none") if session.speaker else ("has no", "has one")
            raise ManifestError(
                f"{session.where}: {has} 'speaker', but {sessions[0].where} {other}, and a line is "
                "a session or an utterance. Write two manifests."
            )
    return sessions[0].speaker is not None


def unique_ids(sessions: Sequence[Session]) -> list[str]:
    """An id for each line: its own, or of utterances that share it, one that tells them apart.

    Raises:
        ManifestError: if two lines would have one id, or one cannot stand in a table.
    """
    shared = Counter(session.session_id for session in sessions)
    known: dict[str, Session] = {}
    for session in sessions:
        name = session.session_id
        if session.speaker is not None and shared[name] > 1:
            name = f"{session.speaker}-{name}-{round(session.offset * 1000):09d}"
        try:
            check_name("session id", name)
        except RttmError as error:
            raise ManifestError(f"{session.where}: {error}") from None
        first = known.setdefault(name, session)
        if first is not session:
            raise ManifestError(
                f"{session.where}: would be {name!r}, as {first.where} is, but ids must differ. "
                "Give one of the lines another 'session_id'."
            )
    return list(known)


def recording_ids(sessions: Sequence[Session]) -> dict[Path, str]:
    """Recordings and what to call them: their names without the ending.

    Raises:
        ManifestError: if two recordings share a name, or one has white space in it.
    """
    known: dict[str, Session] = {}
    for session in sessions:
        try:
            check_name("name", session.audio.stem)
        except RttmError as error:
            raise ManifestError(
                f"{session.where}: {session.audio}: {error} Rename the file."
            ) from None
        first = known.setdefault(session.audio.stem, session)
        if first.audio.resolve() != session.audio.resolve():
            raise ManifestError(
                f"{session.where}: {session.audio} has the base name of {first.audio} at "
                f"{first.where}, but recordings are told apart by it. Rename one."
            )
    return {session.audio: session.audio.stem for session in sessions}


def span_in(session: Session, info: AudioInfo) -> tuple[float, float]:
    """Where a session starts and ends in its recording, seconds.

    Raises:
        ManifestError: if it does not lie in its recording.
    """
    end = info.duration if session.duration is None else session.end
    if session.offset >= info.duration or end > info.duration + TOLERANCE:
        raise ManifestError(
            f"{session.where}: session {session.session_id!r} goes from {session.offset:.2f} s to "
            f"{end:.2f} s, but its audio lasts {info.duration:.2f} s. Correct 'offset' or "
            "'duration'."
        )
    return session.offset, min(end, info.duration)


def full_path(path: Path) -> Path:
    """A path as it is found from anywhere; a recording that is a link stays one."""
    return path.parent.resolve() / path.name


def headers(sessions: Sequence[Session]) -> dict[Path, AudioInfo]:
    """The header of every recording, each read once.

    Raises:
        AudioError: if one cannot be read.
    """
    return {path: audio_info(path) for path in {session.audio: None for session in sessions}}


def _with_rttm(session: Session, path: Path, turns: Mapping[str, Sequence[Turn]]) -> Session:
    count = session.num_speakers
    if count is None:
        count = len({turn.speaker for turn in turns.get(session.session_id, ())})
    return replace(session, rttm=path, num_speakers=count)
