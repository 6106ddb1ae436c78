"""pyannote.database's protocols: which recordings are for training, development and test.

``database.yml`` says where recordings lie, and for each subset of a protocol which they are (a list
of ``uri``), who speaks when (``annotation``, RTTM) and what of it counts (``annotated``, UEM).
pyannote.database reads it.
"""

import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

from diarize.errors import ManifestError
from diarize.formats.rttm import read_rttm
from diarize.formats.uem import read_uem
from diarize.manifest.exchange import name_rttm, without_references, write_references
from diarize.manifest.reference import find
from diarize.manifest.session import Session

REFERENCES = {"annotation": ".rttm", "annotated": ".uem"}
"""What is said of a recording beside its name, and the ending of a file that says it."""


class _Part(NamedTuple):
    """A subset of a protocol: what is said of it, and where."""

    protocol: str
    subset: str
    entries: Mapping[str, Any]
    yml: Path


def from_database(
    yml: str | Path,
    protocol: str | None = None,
    subset: str | None = None,
    write_rttm: str | Path | None = None,
) -> list[Session]:
    """The sessions of a subset, in the order of its list.

    Args:
        yml: ``database.yml``; those that it requires are read as well.
        protocol: as in ``AMI.SpeakerDiarization.only_words``.
        subset: as in ``train``, ``development`` or ``test``.
        write_rttm: folder for ``SESSION.rttm``; without it, the database's own files are named.

    Raises:
        ManifestError: if pyannote.database cannot read it, there is no such protocol or subset, a
            recording or reference is missing, or a reference is neither RTTM nor UEM.
        RttmError: if a reference cannot be read.
    """
    with redirect_stdout(sys.stderr):  # on which pyannote.database says what it assumes
        registry = _registry(Path(yml))
        sessions = [
            session
            for part in _parts(registry, str(yml), protocol, subset)
            for session in _sessions(registry, part)
        ]
    for session in sessions:
        if session.uem is not None:
            find(session, session.uem, read_uem(session.uem))
    paths = [session.rttm for session in sessions if session.rttm is not None]
    if not paths:
        return without_references(sessions, f"{yml}: {protocol}.{subset}", write_rttm)
    if len(paths) < len(sessions):
        raise ManifestError(
            f"{yml}: {len(paths)} recordings of {protocol} have an annotation, but there are "
            f"{len(sessions)}. Take the subsets apart, or add it."
        )
    if write_rttm is None:
        return name_rttm(sessions, paths)
    contents = {path: read_rttm(path) for path in dict.fromkeys(paths)}
    turns = {
        session.session_id: contents[path].get(session.session_id, [])
        for session, path in zip(sessions, paths, strict=True)
    }
    return write_references(sessions, turns, write_rttm)


def _registry(yml: Path) -> Any:
    if not yml.is_file():
        raise ManifestError(f"{yml}: is no file, but database.yml is one. Check the path.")
    try:
        from pyannote.database.registry import Registry

        registry = Registry()
        registry.load_database(yml)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # of YAML, or whatever a missing key leads to
        raise ManifestError(
            f"{yml}: pyannote.database cannot read it ({_in_one_line(error)}). Mend the file."
        ) from None
    return registry


def _parts(registry: Any, where: str, protocol: str | None, subset: str | None) -> Iterator[_Part]:
    """A subset of a protocol; of one that is made of others, theirs."""
    known = _known(registry)
    if protocol not in known:
        listed = "; ".join(f"{name} ({', '.join(known[name])})" for name in known) or "none"
        named = f"protocol {protocol!r} is asked for" if protocol else "no protocol is named"
        raise ManifestError(f"{where}: {named}, but there are: {listed}. Give --protocol.")
    if subset not in known[protocol]:
        named = f"subset {subset!r} of {protocol} is asked for" if subset else "no subset is named"
        raise ManifestError(
            f"{where}: {named}, but there are: {', '.join(known[protocol])}. Give --subset."
        )
    part = known[protocol][subset]
    if not protocol.startswith("X."):
        yield part
        return
    for name, subsets in part.entries.items():
        for one in subsets:
            yield from _parts(registry, f"{part.yml}: {protocol}", name, one)


def _known(registry: Any) -> dict[str, dict[str, _Part]]:
    """Protocols that can be taken, and their subsets."""
    names = set(registry)
    known: dict[str, dict[str, _Part]] = {}
    for yml, config in registry.configs.items():
        for database, tasks in config.get("Protocols", {}).items():
            for task, protocols in tasks.items():
                for own, subsets in protocols.items():
                    name = f"{database}.{task}.{own}"
                    named = {"files": subsets} if task == "Collection" else subsets
                    parts = {
                        subset: _Part(name, subset, entries, yml)
                        for subset, entries in named.items()
                        if database == "X" or {"uri", "uris"} & set(entries)
                    }
                    if name in names:
                        known[name] = parts
    return known


def _sessions(registry: Any, part: _Part) -> Iterator[Session]:
    """The sessions of a part, with the RTTM and UEM that are named for them."""
    from pyannote.database.custom import resolve_path
    from pyannote.database.file_finder import FileFinder

    where = f"{part.yml}: {part.protocol}.{part.subset}"
    for key, suffix in REFERENCES.items():
        if not str(part.entries.get(key, suffix)).endswith(suffix):
            raise ManifestError(
                f"{where}: {key!r} is {part.entries[key]}, but it must end in {suffix}. Write it "
                "as such."
            )
    try:
        finder = {"audio": FileFinder(registry)}
        for file in registry.get_protocol(part.protocol, finder).subset_helper(part.subset):
            paths = {
                key: resolve_path(Path(part.entries[key].format(**abs(file))), part.yml)
                for key in REFERENCES
                if key in part.entries
            }
            rttm, uem = (paths.get(key) for key in REFERENCES)
            yield Session(file["uri"], Path(file["audio"]), rttm=rttm, uem=uem, where=where)
    except Exception as error:  # a missing file for one: list, recording or reference
        raise ManifestError(f"{where}: {_in_one_line(error)}. Mend the paths.") from None


def _in_one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
