"""The mini corpus: single-speaker speech, noise and rooms, checked and split.

A corpus folder holds ``train.jsonl``, ``dev.jsonl`` and ``test.jsonl`` (utterances with
``speaker``; no speaker in two lists), ``noise_train.jsonl``, ``noise_test.jsonl`` and
``rir.jsonl`` (room responses, one channel per position). The speech is read and prompted
English and 60 other languages from LibriSpeech (CC BY 4.0), Common Voice (CC0), VCTK (CC BY 4.0),
speechocean762, Arabic Speech Commands (CC BY 4.0) and Picovoice speech-to-intent (Apache-2.0).

Rooms come in one list, so this script splits them: the last fifth is for test.
"""

import argparse
import sys
from pathlib import Path

from diarize.errors import DiarizeError
from diarize.manifest import read_manifest, write_manifest

SPEECH = ("train", "dev", "test")


def main() -> int:
    """Check that no speaker and no noise is in two lists; write the split of the rooms."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    try:
        speakers = {
            name: {s.speaker for s in read_manifest(args.corpus / f"{name}.jsonl")}
            for name in SPEECH
        }
        rooms = read_manifest(args.corpus / "rir.jsonl")
        noises = {
            name: {
                (s.audio.resolve(), s.offset)
                for s in read_manifest(args.corpus / f"noise_{name}.jsonl")
            }
            for name in ("train", "test")
        }
    except (OSError, DiarizeError) as error:
        print(f"prepare.py: {error}", file=sys.stderr)
        return 1
    for one, other in (("train", "dev"), ("train", "test"), ("dev", "test")):
        both = speakers[one] & speakers[other]
        if both:
            print(
                f"prepare.py: {len(both)} speakers are in both {one} and {other}, such as "
                f"{min(map(str, both))!r}. Remove them from one.",
                file=sys.stderr,
            )
            return 1
    both = noises["train"] & noises["test"]
    if both:
        print(
            f"prepare.py: {len(both)} noises are in both noise_train and noise_test, such as "
            f"'{min(both)[0]}'. Remove them from one.",
            file=sys.stderr,
        )
        return 1
    args.output.mkdir(parents=True, exist_ok=True)
    split = len(rooms) * 4 // 5
    write_manifest(args.output / "rir_train.jsonl", rooms[:split])
    write_manifest(args.output / "rir_test.jsonl", rooms[split:])
    counts = ", ".join(f"{len(speakers[name])} {name}" for name in SPEECH)
    print(
        f"{args.output}: {counts} speakers; {split} rooms to train in, {len(rooms) - split} to test"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
