"""CHiME-6: dinner parties of four people at home, recorded by six arrays in three rooms.

Splits are those of CHiME-6 (``manifests/chime6/``); CHiME-7 moved S19 and S20 from train to eval.

On disk, anywhere below the folder, as OpenSLR 150 unpacks it::

    CHiME6/audio/eval/S01_U06.CH1.wav        U06
    CHiME6/audio/eval/S01_P01.wav            mhm, the mean of the four
    CHiME6/transcriptions/eval/S01.json

References: ``utterances`` as they were transcribed, pauses included; ``forced_alignment``, that of
track 2 of the challenge, nateanl/chime6_rttm, whose clone ``--rttm`` names. In dev and eval, what
is scored begins behind the introductions of the speakers, as in Kaldi.
"""

import re
import sys
from pathlib import Path

from diarize.benchmark import OTHERS, Benchmark, Labelled, Request, prepare, read_list
from diarize.formats.seglst import read_seglst
from diarize.formats.uem import read_uem
from diarize.turns import Turn

LISTS = Path(__file__).parents[2] / "manifests" / "chime6"

BENCHMARK = Benchmark(
    "CHiME-6",
    "Get CHiME6_train, _dev and _eval.tar.gz and CHiME6_transcriptions.tar.gz from "
    "https://www.openslr.org/150/.",
    splits=("eval", "dev", "train"),
    microphones=("U06", "U01", "U02", "U03", "U04", "mhm"),
    references=("utterances", OTHERS),
)

REDACTED = "[redacted]"
"""Words of utterances that were made silent, for privacy."""


def read(request: Request) -> list[Labelled]:
    """The parties of a split."""
    parties = read_list(LISTS / f"{request.split}.txt")
    texts = request.find({name: f"transcriptions/*/{name}.json" for name in parties})
    utterances = {name: read_seglst(path) for name, path in texts.items()}
    if request.microphone == "mhm":
        people = {name: sorted({u.speaker for u in utterances[name]}) for name in parties}
        worn = request.find({f"{n}_{p}": f"{n}_{p}.wav" for n in parties for p in people[n]})
        audio = {name: [worn[f"{name}_{p}"] for p in people[name]] for name in parties}
    else:
        audio = request.find({name: f"{name}_{request.microphone}.CH1.wav" for name in parties})
    if request.reference == OTHERS:
        turns = request.turns_of_others(parties, lambda name: re.sub(r"_U\d\d(\.ENH)?$", "", name))
    else:
        kept = {
            name: [u for u in utterances[name] if u.words != REDACTED and u.end > u.start]
            for name in parties
        }
        lost = sum(len(utterances[name]) - len(kept[name]) for name in parties)
        if lost:
            request.notes.append(
                f"{lost} utterances are redacted, or end before they start; they are left out"
            )
        turns = {n: [Turn(u.start, u.end, u.speaker) for u in kept[n]] for n in parties}
    scored = LISTS / f"{request.split}.uem"
    regions = read_uem(scored) if scored.exists() else {}
    return [Labelled(name, audio[name], turns[name], regions.get(name)) for name in parties]


if __name__ == "__main__":
    sys.exit(prepare(BENCHMARK, read))
