"""Benchmark sets: a split of a corpus as people have it on disk, as a manifest with RTTM and UEM.

A recipe's ``prepare.py`` says what is true of its corpus, a `Benchmark`, and how sessions of it
are read, a function from `Request` to `Labelled`. What all of them share is here: the command
line, the search for files, and what is written.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

import numpy as np
import soundfile

from diarize.audio import SAMPLE_RATE, TOLERANCE, audio_info, read_audio
from diarize.errors import CorpusError, DiarizeError
from diarize.files import in_words, read_lines, replacing
from diarize.formats.rttm import read_rttm
from diarize.formats.uem import write_uem
from diarize.manifest import Session, write_manifest
from diarize.manifest.exchange import full_path, write_references
from diarize.turns import Segment, Turn, clip

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
class Labelled:
    """A session of a corpus, and the truth of it.

    Attributes:
        session_id: field 2 of RTTM.
        audio: its recording, all of it; of several that began together, the mean is written.
        turns: who spoke when, seconds of the recording.
        regions: what is scored; None is the whole recording.
        extra: further keys of its manifest line.
    """

    session_id: str
    audio: Path | Sequence[Path]
    turns: Sequence[Turn]
    regions: Sequence[Segment] | None = None
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What is to be prepared.

    Attributes:
        benchmark: the corpus.
        corpus: its folder.
        split: one of the benchmark's.
        microphone: likewise.
        reference: likewise.
        rttm: folder of RTTM files that others have made, where they are the reference.
        notes: what the user must know besides; readers add to it.
    """

    benchmark: Benchmark
    corpus: Path
    split: str
    microphone: str
    reference: str
    rttm: Path | None = None
    notes: list[str] = field(default_factory=list)

    def find(self, names: Mapping[str, str]) -> dict[str, Path]:
        """The file of each name, sought anywhere below the corpus.

        Args:
            names: by whatever the caller likes, the file's name, or the end of its path such as
                ``Bmr021/chan6.sph``; ``*`` stands for anything within a name. Upper and lower
                case are one.

        Raises:
            CorpusError: if any is missing, with all that are, or one is there twice.
        """
        found, missing = {}, []
        for key, name in names.items():
            matches = {path.resolve(): path for path in self._matches(name.lower())}
            if len(matches) > 1:
                first, second = sorted(matches.values())[:2]
                raise CorpusError(
                    f"{self.corpus}: {name!r} is {first} and {second}, but one is needed. Name a "
                    "folder that has only one of them."
                )
            if matches:
                found[key] = next(iter(matches.values()))
            else:
                missing.append(name)
        if missing:
            raise self.lacks(missing, len(names))
        return found

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

    def turns_of_others(self, session_ids: Iterable[str]) -> dict[str, list[Turn]]:
        """Turns of each session from RTTM files that others have made, found by the ids inside.

        Raises:
            CorpusError: if ``rttm`` is not given or lacks a session, or two files hold one.
            RttmError: if a file cannot be read.
        """
        if self.rttm is None:
            raise CorpusError(
                f"{self.benchmark.name}: the reference is {self.reference}, but no folder of its "
                "RTTM files is given. Give --rttm DIR."
            )
        found: dict[str, list[Turn]] = {}
        places: dict[str, Path] = {}
        wanted = dict.fromkeys(session_ids)
        for path in sorted(self.rttm.rglob("*.rttm")):
            for name, turns in read_rttm(path).items():
                if name in found and name in wanted:
                    raise CorpusError(
                        f"{path}: holds session {name!r}, but so does {places[name]}. Name a "
                        "folder that has only one of them."
                    )
                found[name], places[name] = turns, path
        missing = [name for name in wanted if name not in found]
        if missing:
            more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
            raise CorpusError(
                f"{self.rttm}: no *.rttm here holds {', '.join(map(repr, missing[:5]))}{more}, but "
                f"{self.split} of {self.benchmark.name} has {len(wanted)} sessions, and each needs "
                "its turns. Is the folder whole?"
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
        parser.add_argument("--rttm", metavar="DIR", type=Path, help=f"RTTM files of {OTHERS}")
    args = parser.parse_args(arguments)
    output = args.output
    del args.output
    request = Request(benchmark, **vars(args))
    try:
        if not request.corpus.is_dir():
            raise CorpusError(
                f"{request.corpus}: is no folder, but {benchmark.name} is one. {benchmark.source}"
            )
        sessions = write_split(output, request, read(request))
    except (DiarizeError, OSError) as error:
        said = in_words(error) if isinstance(error, OSError) else str(error)
        print(f"prepare.py: {said}", file=sys.stderr)
        return 1
    for note in request.notes:
        print(f"prepare.py: note: {note}", file=sys.stderr)
    hours = sum(session.duration or 0.0 for session in sessions) / 3600
    print(
        f"{output / request.split}.jsonl: {len(sessions)} sessions, {hours:.2f} h, "
        f"{request.microphone}, {request.reference}"
    )
    return 0


def write_split(folder: Path, request: Request, found: Sequence[Labelled]) -> list[Session]:
    """Write ``SPLIT.jsonl`` and what it names, ``rttm/SESSION.rttm`` and ``uem/SESSION.uem``.

    Of sessions with several recordings, the mean of them is written to ``audio/SESSION.flac``.

    Turns end where the recording ends. The manifest comes last: where it is, the rest is.

    Args:
        folder: made if need be.
        request: what the sessions are; its notes are told what was cut.
        found: the sessions.

    Raises:
        CorpusError: if there are none.
        ManifestError: if two sessions share an id, or what is there holds another reference.
        AudioError: if a recording cannot be read.
        RttmError: for a name that RTTM cannot hold.
    """
    if not found:
        raise CorpusError(
            f"{request.corpus}: has no session of {request.split}, but a split has some. "
            f"{request.benchmark.source}"
        )
    keys = {"label": "infer", "text": "-", "corpus": request.benchmark.name}
    keys |= {name: getattr(request, name) for name in ("split", "microphone", "reference")}
    sessions: list[Session] = []
    turns: dict[str, list[Turn]] = {}
    regions: dict[str, Sequence[Segment]] = {}
    late: dict[str, float] = {}
    mixes: dict[Path, Sequence[Path]] = {}
    for labelled in found:
        name, audio = labelled.session_id, labelled.audio
        parts = [audio] if isinstance(audio, Path) else audio
        duration = max(audio_info(part).duration for part in parts)
        if len(parts) > 1:
            audio = folder / "audio" / f"{name}.flac"
            mixes[audio] = parts
        else:
            audio = parts[0]
        last = max((turn.end for turn in labelled.turns), default=0.0)
        if last > duration + TOLERANCE:
            late[name] = last - duration
        turns[name] = clip(labelled.turns, 0.0, duration)
        whole = [Segment(0.0, duration)]
        regions[name] = whole if labelled.regions is None else labelled.regions
        session = Session(
            name,
            full_path(audio),
            duration=round(duration, 6),
            uem=folder / "uem" / f"{name}.uem",
            extra={**keys, **labelled.extra},
            where=str(audio),
        )
        sessions.append(session)
    if late:
        worst = max(late, key=late.__getitem__)
        request.notes.append(
            f"turns of {len(late)} sessions pass the end of the recording, by up to "
            f"{late[worst]:.2f} s ({worst!r}); they are cut there"
        )
    for path, parts in mixes.items():
        _write_mean(path, parts)
    sessions = write_references(sessions, turns, folder / "rttm")
    (folder / "uem").mkdir(exist_ok=True)
    for name, scored in regions.items():
        write_uem(folder / "uem" / f"{name}.uem", {name: scored})
    write_manifest(folder / f"{request.split}.jsonl", sessions)
    return sessions


def _write_mean(path: Path, recordings: Sequence[Path]) -> None:
    """Write the mean of recordings, 16 kHz FLAC; the shorter ones end in silence."""
    longest = max(audio_info(recording).num_samples_at(SAMPLE_RATE) for recording in recordings)
    mean = np.zeros(longest, dtype=np.float32)
    for recording in recordings:
        waveform = read_audio(recording)
        mean[: len(waveform)] += waveform / len(recordings)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as beside:
        soundfile.write(beside, mean, SAMPLE_RATE, format="FLAC", subtype="PCM_16")


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
