"""CALLHOME: telephone calls in six languages, two to seven speakers, of NIST's SRE 2000.

On disk, anywhere below the folder::

    r65_8_1/sid00sg1/data/iaaa.sph        disc 8 of LDC2001S97; 8 kHz, mu-law
    sre2000-key/fullref.rttm              https://www.openslr.org/resources/10/sre2000-key.tar.gz

Calls may also have been converted, to ``iaaa.wav`` or ``iaaa.flac``: what is there of the first
call is taken of all. The parts are those of Kaldi; iaeu, the 500th call, is in neither.
"""

import sys
from pathlib import Path

from diarize.benchmark import Benchmark, Labelled, Request, prepare, read_list
from diarize.formats.rttm import read_rttm

LISTS = Path(__file__).parents[2] / "manifests" / "callhome"

BENCHMARK = Benchmark(
    "CALLHOME",
    "Get LDC2001S97 (disc 8) from https://catalog.ldc.upenn.edu/, and unpack "
    "https://www.openslr.org/resources/10/sre2000-key.tar.gz below the same folder.",
    splits=("part2", "part1"),
    microphones=("telephone",),
    references=("sre2000_key",),
)


def read(request: Request) -> list[Labelled]:
    """The calls of a part."""
    names = read_list(LISTS / f"{request.split}.txt")
    endings = [e for e in (".sph", ".wav", ".flac") if request.files(f"{names[0]}{e}")]
    audio = request.find({name: f"{name}{[*endings, '.sph'][0]}" for name in names})
    key = request.find({"": "fullref.rttm"})[""]
    turns = read_rttm(key)
    missing = [name for name in names if name not in turns]
    if missing:
        raise request.lacks([f"{name} in {key.name}" for name in missing], len(names))
    return [Labelled(name, audio[name], turns[name]) for name in names]


if __name__ == "__main__":
    sys.exit(prepare(BENCHMARK, read))
