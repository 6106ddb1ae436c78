"""VoxConverse: debates, panels and news from YouTube, one to 21 speakers.

On disk, anywhere below the folder, as the audio and the labels are unpacked::

    audio/abjxc.wav                       of voxconverse_dev_wav.zip
    voxconverse_test_wav/aepyx.wav        of voxconverse_test_wav.zip
    voxconverse/dev/abjxc.rttm            a clone of the labels
    voxconverse/test/aepyx.rttm

References: ``v0_3``, the master branch of the labels, mended some of the test set; ``v0_2`` is the
branch of before. The files do not say which they are: check out what you name.
"""

import sys
from pathlib import Path

from diarize.benchmark import Benchmark, Labelled, Request, prepare, read_list

LISTS = Path(__file__).parents[2] / "manifests" / "voxconverse"

BENCHMARK = Benchmark(
    "VoxConverse",
    "Get audio from https://www.robots.ox.ac.uk/~vgg/data/voxconverse/ and labels from "
    "https://github.com/joonson/voxconverse.",
    splits=("test", "dev"),
    microphones=("mono",),
    references=("v0_3", "v0_2"),
)


def read(request: Request) -> list[Labelled]:
    """The recordings of a split."""
    names = read_list(LISTS / f"{request.split}.txt")
    audio = request.find({name: f"{name}.wav" for name in names})
    labels = request.find({name: f"{request.split}/{name}.rttm" for name in names})
    return [Labelled(name, audio[name], request.turns_in(labels[name], name)) for name in names]


if __name__ == "__main__":
    sys.exit(prepare(BENCHMARK, read))
