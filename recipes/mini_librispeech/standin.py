"""Utterances of LibriSpeech that a manifest holds, as a part of LibriSpeech on disk.

    python recipes/mini_librispeech/standin.py MANIFEST PART [--least N]

A line is taken if it has ``utterance``, its id in LibriSpeech, ``103-1240-0000``, and its speaker
has at least N such lines, ten unless told. PART is the folder to make, such as
``LibriSpeech/train-clean-5``. Thus the recipe runs where only such a manifest is, as in the speech
that recipes/mini trains on; its figures are then of other utterances than those of its name.
"""

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path

import soundfile

from diarize.audio import SAMPLE_RATE, read_audio
from diarize.errors import DiarizeError
from diarize.files import write_text
from diarize.manifest import Session, read_manifest

ID = re.compile(r"(\d+)-(\d+)-\d+")


def main() -> int:
    """Write FLAC files and transcripts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("part", type=Path)
    parser.add_argument("--least", type=int, default=10)
    args = parser.parse_args()
    try:
        chapters: dict[str, dict[str, list[Session]]] = defaultdict(lambda: defaultdict(list))
        for line in read_manifest(args.manifest):
            if match := ID.fullmatch(str(line.extra.get("utterance", ""))):
                chapters[match[1]][match[2]].append(line)
        chosen = {s: c for s, c in chapters.items() if sum(map(len, c.values())) >= args.least}
        for speaker, of in chosen.items():
            for chapter, lines in of.items():
                write_chapter(args.part / speaker / chapter, lines)
    except (DiarizeError, OSError) as error:
        print(f"standin.py: {error}", file=sys.stderr)
        return 1
    print(f"{args.part}: {len(chosen)} speakers")
    return 0


def write_chapter(folder: Path, lines: list[Session]) -> None:
    """Recordings, then the transcript that names them."""
    folder.mkdir(parents=True, exist_ok=True)
    names = sorted({str(line.extra["utterance"]): line for line in lines}.items())
    for name, line in names:
        waveform = read_audio(line.audio, line.offset, line.duration)
        soundfile.write(folder / f"{name}.flac", waveform, SAMPLE_RATE)
    text = "".join(f"{name} {line.extra.get('text', '')}".rstrip() + "\n" for name, line in names)
    write_text(folder / f"{folder.parent.name}-{folder.name}.trans.txt", text)


if __name__ == "__main__":
    sys.exit(main())
