"""LibriSpeech as it is unpacked: one utterance a file, by speaker and chapter.

::

    LibriSpeech/train-clean-5/103/1240/103-1240-0000.flac
    LibriSpeech/train-clean-5/103/1240/103-1240.trans.txt

A line of the transcript is an utterance, ``103-1240-0000 CHAPTER ONE``. Conversations are simulated
from such read speech (`diarize.simulate`); the recipes that do so have their command line here.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from diarize.audio import audio_info
from diarize.errors import CorpusError, DiarizeError
from diarize.files import in_words, read_lines
from diarize.manifest import Session, write_manifest

SOURCE = "Get it from https://www.openslr.org/{}/, and name the folder that it lies in."
ARCHIVES = {"train-clean-5": 31, "dev-clean-2": 31}
"""OpenSLR's numbers of parts that are not in LibriSpeech's own archive, 12."""


def from_librispeech(corpus: str | Path, part: str) -> list[Session]:
    """The utterances of a part, each with its speaker, sorted by their ids.

    Args:
        corpus: the folder of parts, or the one above it.
        part: such as ``train-clean-5``.

    Raises:
        CorpusError: if the part is not there, or a transcript and the recordings beside it differ.
        AudioError: if a recording cannot be read.
    """
    source = SOURCE.format(ARCHIVES.get(part, 12))
    folder = next(
        (f for f in (Path(corpus, part), Path(corpus, "LibriSpeech", part)) if f.is_dir()), None
    )
    if folder is None:
        raise CorpusError(
            f"{corpus}: has no folder {part!r}, but its utterances are needed. {source}"
        )
    texts: dict[str, str] = {}
    for path in sorted(folder.glob("*/*/*.trans.txt")):
        for number, line in enumerate(read_lines(path, CorpusError), start=1):
            name, _, text = line.partition(" ")
            if len(name.split("-")) != 3:
                raise CorpusError(
                    f"{path}:{number}: begins with {name!r}, but an id is SPEAKER-CHAPTER-NUMBER. "
                    "Unpack the part again."
                )
            texts[name] = text
    recordings = {path.stem: path for path in folder.glob("*/*/*.flac")}
    differing = sorted(texts.keys() ^ recordings.keys())
    if differing or not texts:
        names = ", ".join(differing[:5]) + (
            f" and {len(differing) - 5} more" if len(differing) > 5 else ""
        )
        raise CorpusError(
            f"{folder}: transcripts name {len(texts)} utterances, but there are {len(recordings)} "
            f"recordings{f'; they differ by {names}' if names else ''}. Is the part whole? {source}"
        )
    return [
        Session(
            name,
            recordings[name],
            duration=audio_info(recordings[name]).duration,
            speaker=name.split("-")[0],
            extra={"text": texts[name]},
            where=str(recordings[name]),
        )
        for name in sorted(recordings)
    ]


def prepare_utterances(
    lists: Mapping[str, Sequence[str]], arguments: Sequence[str] | None = None
) -> int:
    """The command line of a recipe's ``prepare.py``: a manifest of utterances for each list.

    Args:
        lists: parts of LibriSpeech by the name of the list, such as ``train``; nobody is in two.
        arguments: of the command line; None takes those of the process.

    Returns:
        0 where it is done, 1 where the corpus is at fault.
    """
    parser = argparse.ArgumentParser(
        prog="prepare.py", description=f"Write {', '.join(f'{name}.jsonl' for name in lists)}."
    )
    parser.add_argument("corpus", type=Path, help="the folder of LibriSpeech")
    parser.add_argument("output", type=Path)
    for name, parts in lists.items():
        parser.add_argument(
            f"--{name}",
            metavar="PART",
            nargs="+",
            default=parts,
            help=f"default: {' '.join(parts)}",
        )
    args = vars(parser.parse_args(arguments))
    corpus, output = args.pop("corpus"), args.pop("output")
    try:
        found = {
            name: [u for p in parts for u in from_librispeech(corpus, p)]
            for name, parts in args.items()
        }
        _check_speakers(found)
        output.mkdir(parents=True, exist_ok=True)
        for name, utterances in found.items():
            write_manifest(output / f"{name}.jsonl", utterances)
    except (DiarizeError, OSError) as error:
        print(
            f"prepare.py: {in_words(error) if isinstance(error, OSError) else error}",
            file=sys.stderr,
        )
        return 1
    for name, utterances in found.items():
        speakers = {utterance.speaker for utterance in utterances}
        hours = sum(utterance.duration or 0.0 for utterance in utterances) / 3600
        print(
            f"{output / name}.jsonl: {len(speakers)} speakers, {len(utterances)} utterances, "
            f"{hours:.2f} h"
        )
    return 0


def _check_speakers(lists: Mapping[str, Sequence[Session]]) -> None:
    """Refuse a speaker who is in two lists."""
    known: dict[str | None, str] = {}
    for name, utterances in lists.items():
        for utterance in utterances:
            other = known.setdefault(utterance.speaker, name)
            if other != name:
                raise CorpusError(
                    f"{utterance.where}: speaker {utterance.speaker!r} is in {name}, but in "
                    f"{other} as well. Choose parts that share nobody."
                )
