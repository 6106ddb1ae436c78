"""LibriCSS: LibriSpeech played back in a meeting room, eight speakers, overlap by design.

Ten sessions of ten minutes in each of six conditions: no overlap with short (0S) or long (0L)
pauses, and 10 to 40 % of it (OV10 to OV40). Splits are ``dev``, the first of each, ``test``, the
other nine, and the conditions, which are those of test.

On disk, anywhere below the folder, as it is unpacked::

    for_release/OV10/overlap_ratio_10.0_sil0.1_1.0_session1_actual10.2/record/raw_recording.wav
                                                                      /clean/mix.wav
                                                                      /transcription/meeting_info.txt

Microphones: ``sdm``, the first of the seven channels of the first file; ``clean``, the second file,
which was not played back. Reference: ``utterances`` as they were played, LibriSpeech's own silences
included.
"""

import sys
from pathlib import Path

from diarize.benchmark import Benchmark, Labelled, Request, prepare, read_list
from diarize.errors import CorpusError
from diarize.files import read_lines
from diarize.turns import Turn

LISTS = Path(__file__).parents[2] / "manifests" / "libricss"

CONDITIONS = ("0S", "0L", "OV10", "OV20", "OV30", "OV40")

RECORDINGS = {"sdm": "record/raw_recording.wav", "clean": "clean/mix.wav"}

BENCHMARK = Benchmark(
    "LibriCSS",
    "Get for_release.zip by dataprep/scripts/dataprep.sh of "
    "https://github.com/chenzhuo1011/libri_css.",
    splits=("test", "dev", *CONDITIONS),
    microphones=tuple(RECORDINGS),
    references=("utterances",),
)


def read(request: Request) -> list[Labelled]:
    """The sessions of a split or condition."""
    of_condition = request.split in CONDITIONS
    names = read_list(LISTS / ("test.txt" if of_condition else f"{request.split}.txt"))
    if of_condition:
        names = [name for name in names if name.startswith(f"{request.split}_")]
    folders = {}
    for name in names:
        condition, session = name.split("_")
        folders[name] = f"{condition}/overlap_ratio_*_{session}_actual*"
    recording = RECORDINGS[request.microphone]
    audio = request.find({name: f"{folders[name]}/{recording}" for name in names})
    texts = request.find(
        {name: f"{folders[name]}/transcription/meeting_info.txt" for name in names}
    )
    channel = 0 if request.microphone == "sdm" else None
    return [
        Labelled(n, audio[n], utterances(texts[n]), None, {"condition": n.split("_")[0]}, channel)
        for n in names
    ]


def utterances(path: Path) -> list[Turn]:
    """Turns of a session: start, end, speaker and more on a line, below one of headings."""
    turns = []
    for number, line in enumerate(read_lines(path, CorpusError)[1:], 2):
        fields = line.split(maxsplit=3)
        try:
            turns.append(Turn(float(fields[0]), float(fields[1]), fields[2]))
        except (IndexError, ValueError):
            raise CorpusError(
                f"{path}:{number}: is {line!r}, but a line begins with start, end and speaker. "
                "Unpack the file again."
            ) from None
    return turns


if __name__ == "__main__":
    sys.exit(prepare(BENCHMARK, read))
