"""Earnings-21: calls in which companies tell of their quarter, two to twenty speakers.

On disk, anywhere below the folder, a clone of revdotcom/speech-datasets with its large files::

    earnings21/media/4320211.mp3
    earnings21/rttms/4320211.rttm

The labels are of people, added in 2023; those of 4341191 and 4363614 were made anew, for speakers
had been mistaken, so that they differ from the transcripts.
"""

import sys
from pathlib import Path

from diarize.benchmark import Benchmark, Labelled, Request, prepare, read_list
from diarize.errors import CorpusError

LISTS = Path(__file__).parents[2] / "manifests" / "earnings21"
POINTER = b"version https://git-lfs.github.com"

BENCHMARK = Benchmark(
    "Earnings-21",
    "Clone https://github.com/revdotcom/speech-datasets with Git LFS.",
    splits=("test", "eval10"),
    microphones=("mono",),
    references=("rev",),
)


def read(request: Request) -> list[Labelled]:
    """The calls of a split."""
    names = read_list(LISTS / f"{request.split}.txt")
    audio = request.find({name: f"media/{name}.mp3" for name in names})
    labels = request.find({name: f"rttms/{name}.rttm" for name in names})
    for path in audio.values():
        with path.open("rb") as file:
            if file.read(len(POINTER)) == POINTER:
                raise CorpusError(
                    f"{path}: stands for a recording that Git LFS has not fetched, but the "
                    "recording is needed. Run: git lfs pull --include 'earnings21/media/*'"
                )
    return [Labelled(name, audio[name], request.turns_in(labels[name], name)) for name in names]


if __name__ == "__main__":
    sys.exit(prepare(BENCHMARK, read))
