"""AISHELL-4: Mandarin meetings of four to eight people, an array of eight microphones on the table.

On disk, anywhere below the folder, as OpenSLR's archives are unpacked::

    train_L/wav/20200706_L_R001S01C01.flac            train_M and train_S likewise
    train_L/TextGrid/20200706_L_R001S01C01.TextGrid
    train_L/TextGrid/20200706_L_R001S01C01.rttm
    test/wav/L_R003S01C02.flac
    test/TextGrid/L_R003S01C02.rttm

References: ``rttm``, the one that diarization is scored with, and ``textgrid``, the transcript, in
which an interval with a text is a turn, also where the text is no more than a sign such as ``<%>``.
Speakers are numbered anew in each meeting. The array's file is one session with eight channels, of
which the mean is heard; ``-- --channel 0`` of run.sh hears the first.
"""

import sys
from collections.abc import Callable
from pathlib import Path

from diarize.benchmark import Benchmark, Labelled, Request, prepare, read_list
from diarize.formats.textgrid import read_textgrid
from diarize.turns import Turn

LISTS = Path(__file__).parents[2] / "manifests" / "aishell4"
ROOMS = ("train_L", "train_M", "train_S")
MEETINGS = 191
"""To train on, in all rooms."""

BENCHMARK = Benchmark(
    "AISHELL-4",
    "Get test.tar.gz, train_L.tar.gz, train_M.tar.gz and train_S.tar.gz from "
    "https://www.openslr.org/111/.",
    splits=("test", "train", *ROOMS),
    microphones=("array",),
    references=("rttm", "textgrid"),
)


def read(request: Request) -> list[Labelled]:
    """The meetings of a split."""
    ending = {"rttm": "rttm", "textgrid": "TextGrid"}[request.reference]
    if request.split == "test":
        places = dict.fromkeys(read_list(LISTS / "test.txt"), "test")
    else:
        places = meetings(request, ROOMS if request.split == "train" else (request.split,), ending)
    audio = request.find({name: f"{place}/wav/{name}.flac" for name, place in places.items()})
    labels = request.find(
        {name: f"{place}/TextGrid/{name}.{ending}" for name, place in places.items()}
    )
    spoken: Callable[[Path, str], list[Turn]] = request.turns_in
    if request.reference == "textgrid":
        spoken = transcribed
    return [Labelled(name, audio[name], spoken(labels[name], name)) for name in places]


def meetings(request: Request, rooms: tuple[str, ...], ending: str) -> dict[str, str]:
    """The folder of every meeting that a recording or a label in it names."""
    places: dict[str, str] = {}
    for room in rooms:
        found = {
            path.stem: room
            for pattern in (f"{room}/wav/*.flac", f"{room}/TextGrid/*.{ending}")
            for path in request.files(pattern)
        }
        if not found:
            raise request.lacks([f"{room}/wav/*.flac"], len(rooms))
        places |= dict(sorted(found.items()))
    if rooms == ROOMS and len(places) != MEETINGS:
        request.notes.append(
            f"there are {len(places)} meetings in {', '.join(rooms)}, but {MEETINGS} were released"
        )
    return places


def transcribed(path: Path, name: str) -> list[Turn]:
    """A turn for every interval with a text; a tier is a speaker."""
    return [turn for tier in read_textgrid(path) for turn in tier.turns()]


if __name__ == "__main__":
    sys.exit(prepare(BENCHMARK, read))
