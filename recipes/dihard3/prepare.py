"""DIHARD III: eleven domains, from audiobooks to restaurants and web video, in short excerpts.

On disk, anywhere below the folder, as the LDC lays out both releases; LDC2022S12 is dev,
LDC2022S14 eval, and one may be missing::

    data/flac/DH_EVAL_0001.flac
    data/rttm/DH_EVAL_0001.rttm
    data/uem_scoring/full/all.uem         what is scored, of whom the full set consists
    data/uem_scoring/core/all.uem         likewise of the core set, whose domains weigh alike
    docs/recordings.tbl                   columns ``uri``, ``domain`` and others, between tabs

Lines name their ``domain`` where that table is there.
"""

import sys

from diarize.benchmark import Benchmark, Labelled, Request, prepare
from diarize.errors import CorpusError
from diarize.files import read_lines
from diarize.formats.uem import read_uem
from diarize.turns import Segment

BENCHMARK = Benchmark(
    "DIHARD III",
    "Get LDC2022S12 (dev) and LDC2022S14 (eval) from https://catalog.ldc.upenn.edu/.",
    splits=("eval", "dev", "eval_core", "dev_core"),
    microphones=("mono",),
    references=("ldc",),
)


def read(request: Request) -> list[Labelled]:
    """The recordings of a split."""
    regions = scored(request)
    audio = request.find({name: f"flac/{name}.flac" for name in regions})
    labels = request.find({name: f"rttm/{name}.rttm" for name in regions})
    domain = domains(request)
    unknown = sum(name not in domain for name in regions)
    if unknown:
        request.notes.append(f"docs/recordings.tbl has no domain of {unknown} recordings")
    return [
        Labelled(
            name,
            audio[name],
            request.turns_in(labels[name], name),
            segments,
            {"domain": domain[name]} if name in domain else {},
        )
        for name, segments in sorted(regions.items())
    ]


def scored(request: Request) -> dict[str, list[Segment]]:
    """Regions of each recording of a split; the releases differ in what their ids begin with."""
    release, _, subset = request.split.partition("_")
    place = f"uem_scoring/{subset or 'full'}/all.uem"
    regions = {}
    for path in request.files(place):
        found = read_uem(path)
        regions |= {n: s for n, s in found.items() if n.startswith(f"DH_{release.upper()}_")}
    if not regions:
        raise request.lacks([f"{place} of {release}"], 1)
    return regions


def domains(request: Request) -> dict[str, str]:
    """The domain of every recording that a table names."""
    known: dict[str, str] = {}
    for path in request.files("docs/recordings.tbl"):
        head, *rows = (line.split("\t") for line in read_lines(path, CorpusError))
        columns = [name.strip() for name in head]
        if not {"uri", "domain"} <= set(columns):
            raise CorpusError(
                f"{path}:1: has the columns {', '.join(columns)}, but 'uri' and 'domain' are "
                "needed, between tabs. Copy the table again."
            )
        uri, domain = columns.index("uri"), columns.index("domain")
        known |= {row[uri]: row[domain] for row in rows if len(row) == len(columns)}
    return known


if __name__ == "__main__":
    sys.exit(prepare(BENCHMARK, read))
