"""Benchmark sets: a split of a corpus as people have it on disk, as a manifest with RTTM and UEM.

A recipe's ``prepare.py`` says what is true of its corpus, a `Benchmark`, and how sessions of it
are read, a function from `Request` to `Labelled`. What all of them share is here: the command
line, and the search for files.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from diarize.errors import CorpusError, DiarizeError
from diarize.files import in_words, read_lines
from diarize.formats.rttm import read_rttm
from diarize.manifest.split import Labelled, write_split
from diarize.turns import Turn

OTHERS = "forced_alignment"
"""The reference that is read from RTTM files of others, which ``--rttm`` names."""


@dataclass(frozen=True)
class Benchmark:
    """What a recipe knows of a corpus before it looks at it.

    Attributes:
        name: as messages and manifests call it.
        source: where to get it, a sentence: the way out where files are missing.
        splits: the standard ones.
        microphones: what it was recorded with, the conventional one first.
        references: versions of who spoke when, the conventional one first.
    """

    name: str
    source: str
    splits: Sequence[str]
    microphones: Sequence[str]
    references: Sequence[str]


@dataclass(frozen=True)
class Request:
    """What is to be prepared.

    Attributes:
        benchmark: the corpus.
        corpus: its folder.
        split: one of the benchmark's.
        microphone: likewise.
        reference: likewise.
        rttm: RTTM file that others have made, or a folder of them, where they are the reference.
        notes: what the user must know besides; readers add to it.
    """

    benchmark: Benchmark
    corpus: Path
    split: str
    microphone: str
    reference: str
    rttm: Path | None = None
    notes: list[str] = field(default_factory=list)

    def find(self, names: Mapping[str, str | Sequence[str]]) -> dict[str, Path]:
        """The file of each name, sought anywhere below the corpus.

        Args:
            names: by whatever the caller likes, the file's name, or the end of its path such as
                ``Bmr021/chan6.sph``, or several that it may have; ``*`` stands for anything
                within a name. Upper and lower case are one.

        Raises:
            CorpusError: if any is missing, with all that are, or one is there twice.
        """
        found, missing = {}, []
        for key, known in names.items():
            ends = [known] if isinstance(known, str) else known
            name = " or ".join(ends)
            matches = {path.resolve(): path for end in ends for path in self._matches(end.lower())}
            if len(matches) > 1:
                first, second = sorted(matches.values())[:2]
                raise CorpusError(
                    f"{self.corpus}: {name} is {first} and {second}, but one is needed. Name a "
                    "folder that has only one of them."
                )
            if matches:
                found[key] = next(iter(matches.values()))
            else:
                missing.append(name)
        if missing:
            raise self.lacks(missing, len(names))
        return found

    def lacks(self, missing: Sequence[str], needed: int) -> CorpusError:
        """What to say where files are missing, and where to get them.

        Args:
            missing: their names.
            needed: how many there should be.
        """
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        return CorpusError(
            f"{self.corpus}: lacks {len(missing)} of {needed} files "
            f"({', '.join(missing[:5])}{more}), but {self.split} of {self.benchmark.name} needs "
            f"all. {self.benchmark.source}"
        )

    def files(self, name: str) -> list[Path]:
        """Every file whose path ends as `find` is told, sorted; that there is none is no fault."""
        return sorted({path.resolve(): path for path in self._matches(name.lower())}.values())

    def turns_in(self, path: Path, session_id: str) -> list[Turn]:
        """Turns of a session from the RTTM file that bears its name.

        Raises:
            CorpusError: if it holds other sessions only.
            RttmError: if it cannot be read.
        """
        sessions = read_rttm(path)
        if sessions and session_id not in sessions:
            raise CorpusError(
                f"{path}: holds session {next(iter(sessions))!r}, but {session_id!r} is sought "
                f"there. {self.benchmark.source}"
            )
        return sessions.get(session_id, [])

    def turns_of_others(
        self, session_ids: Iterable[str], ours: Callable[[str], str] = str
    ) -> dict[str, list[Turn]]:
        """Turns of each session from RTTM files that others have made, found by the ids inside.

        Args:
            session_ids: whose turns.
            ours: what we call the session that has an id there.

        Raises:
            CorpusError: if ``rttm`` is not given or lacks a session, or holds two sorts of turns
                for one.
            RttmError: if a file cannot be read.
        """
        if self.rttm is None:
            raise CorpusError(
                f"{self.benchmark.name}: the reference is {self.reference}, but no RTTM of "
                "it is given. Give --rttm, a file or a folder of them."
            )
        found: dict[str, list[Turn]] = {}
        places: dict[str, Path] = {}
        wanted = dict.fromkeys(session_ids)
        files = [self.rttm, *sorted(self.rttm.rglob("*rttm"))]
        for path in filter(Path.is_file, files):
            for known, turns in read_rttm(path).items():
                name = ours(known)
                if name in wanted and found.get(name, turns) != turns:
                    raise CorpusError(
                        f"{path}: holds session {name!r}, but so does {places[name]}, with other "
                        "turns. Name a folder that has only one of them."
                    )
                found[name], places[name] = turns, path
        missing = [name for name in wanted if name not in found]
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise CorpusError(
                f"{self.rttm}: no RTTM file here holds {', '.join(map(repr, missing[:5]))}{more}, "
                f"but {self.split} of {self.benchmark.name} has {len(wanted)} sessions, and each "
                "needs its turns. Is the folder whole?"
            )
        return {name: found[name] for name in wanted}

    def _matches(self, name: str) -> list[Path]:
        """Files whose path ends as it is told, in lower case."""
        parts = name.split("/")
        names = self._files if "*" in parts[-1] else [parts[-1]]
        return [
            path
            for last in names
            for path in self._files.get(last, ())
            if len(path.parts) >= len(parts)
            and all(map(fnmatchcase, map(str.lower, path.parts[-len(parts) :]), parts))
        ]

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        """Everything below the corpus, by its name in lower case; links are followed."""
        files: dict[str, list[Path]] = {}
        seen = set()
        for folder, folders, names in os.walk(self.corpus, followlinks=True):
            place = os.path.realpath(folder)
            if place in seen:  # a link that leads back
                folders.clear()
                continue
            seen.add(place)
            folders.sort()
            for name in names:
                files.setdefault(name.lower(), []).append(Path(folder, name))
        return files


def prepare(
    benchmark: Benchmark,
    read: Callable[[Request], Sequence[Labelled]],
    arguments: Sequence[str] | None = None,
) -> int:
    """The command line of a recipe's ``prepare.py``: one split, by one microphone.

    Args:
        benchmark: what is known of the corpus.
        read: its sessions, in the order in which they are to be listed.
        arguments: of the command line; None takes those of the process.

    Returns:
        0 where it is done, 1 where the corpus or what is asked for is at fault. What argparse
        refuses ends the process with 2.
    """
    parser = argparse.ArgumentParser(
        prog="prepare.py",
        description=f"Write a split of {benchmark.name}: SPLIT.jsonl, rttm/ and uem/.",
    )
    parser.add_argument("corpus", type=Path, help="its folder, as it was unpacked")
    parser.add_argument("output", type=Path, help="a folder; one for each microphone and reference")
    for option, choices in (
        ("split", benchmark.splits),
        ("microphone", benchmark.microphones),
        ("reference", benchmark.references),
    ):
        parser.add_argument(
            f"--{option}", choices=choices, default=choices[0],
            help=f"{', '.join(choices)}; default: {choices[0]}",
        )  # fmt: skip
    if OTHERS in benchmark.references:
        parser.add_argument("--rttm", metavar="PATH", type=Path, help=f"RTTM of {OTHERS}")
    args = parser.parse_args(arguments)
    if getattr(args, "rttm", None) and args.reference != OTHERS:
        parser.error(
            f"--rttm is given, but the reference is {args.reference}, which is not read from "
            f"there. Leave it out, or give --reference {OTHERS}"
        )
    output = args.output
    del args.output
    request = Request(benchmark, **vars(args))
    try:
        if not request.corpus.is_dir():
            raise CorpusError(
                f"{request.corpus}: is no folder, but {benchmark.name} is one. {benchmark.source}"
            )
        found = read(request)
        if not found:
            raise CorpusError(
                f"{request.corpus}: has no session of {request.split}, but a split has some. "
                f"{benchmark.source}"
            )
        keys = {"label": "infer", "text": "-", "corpus": benchmark.name}
        keys |= {name: getattr(request, name) for name in ("split", "microphone", "reference")}
        sessions, notes = write_split(output, request.split, found, keys)
    except (DiarizeError, OSError) as error:
        said = in_words(error) if isinstance(error, OSError) else str(error)
        print(f"prepare.py: {said}", file=sys.stderr)
        return 1
    for note in (*request.notes, *notes):
        print(f"prepare.py: note: {note}", file=sys.stderr)
    hours = sum(session.duration or 0.0 for session in sessions) / 3600
    print(
        f"{output / request.split}.jsonl: {len(sessions)} sessions, {hours:.2f} h, "
        f"{request.microphone}, {request.reference}"
    )
    return 0


def read_list(path: str | Path) -> list[str]:
    """Session ids of a list in ``manifests/``: one a line, ``#`` begins a comment.

    Raises:
        CorpusError: if it cannot be read, is empty, or names a session twice.
    """
    lines = [line.split("#")[0].strip() for line in read_lines(path, CorpusError)]
    names = [line for line in lines if line]
    if not names or len(set(names)) < len(names):
        raise CorpusError(
            f"{path}: names {len(names)} sessions, {len(set(names))} of them different, but a "
            "split has some, each once. Mend the list."
        )
    return names
