"""AMI: meetings of three to five people, mostly four, in three instrumented rooms.

Splits are those of the full-corpus-ASR partition (``manifests/ami/``). IS1003b and IS1007d of
train were not recorded by the microphone of ``sdm``, and ES2010d has two channels there, of which
sessions hear the mean.

On disk, anywhere below the folder, as the corpus's own download page lays it out::

    amicorpus/ES2011a/audio/ES2011a.Array1-01.wav      sdm
    amicorpus/ES2011a/audio/ES2011a.Mix-Headset.wav    mhm
    ami_public_manual_1.6.2/words/ES2011a.A.words.xml
    ami_public_manual_1.6.2/corpusResources/meetings.xml

References: ``only_words`` and ``words_and_vocalsounds`` are made of the manual annotation 1.6.2 as
BUT's AMI-diarization-setup makes them: words of a speaker that touch are one turn, pauses part
turns, however short. ``forced_alignment`` is that of nttcslab-sp/diar-forced-alignment, whose
clone ``--rttm`` names.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from diarize.benchmark import OTHERS, Benchmark, Labelled, Request, prepare, read_list
from diarize.formats.nxt import read_words, read_xml
from diarize.turns import Turn, merge

LISTS = Path(__file__).parents[2] / "manifests" / "ami"

RECORDINGS = {"sdm": "Array1-01", "mhm": "Mix-Headset", "lapel": "Mix-Lapel"}

KINDS = {"only_words": {"w"}, "words_and_vocalsounds": {"w", "vocalsound"}}

UNRECORDED = {"IS1003b", "IS1007d"}
"""No first array: https://groups.inf.ed.ac.uk/ami/corpus/dataproblems.shtml."""

BENCHMARK = Benchmark(
    "AMI",
    "Get audio and manual annotations (1.6.2, unpacked) from "
    "https://groups.inf.ed.ac.uk/ami/download/.",
    splits=("test", "dev", "train"),
    microphones=tuple(RECORDINGS),
    references=(*KINDS, OTHERS),
)


def read(request: Request) -> list[Labelled]:
    """The meetings of a split."""
    meetings = read_list(LISTS / f"{request.split}.txt")
    if request.microphone == "sdm":
        meetings = [name for name in meetings if name not in UNRECORDED]
    recording = RECORDINGS[request.microphone]
    audio = request.find({name: f"{name}.{recording}.wav" for name in meetings})
    if request.reference == OTHERS:
        turns = request.turns_of_others(meetings)
    else:
        turns = spoken(request, meetings)
    return [Labelled(name, audio[name], turns[name]) for name in meetings]


def spoken(request: Request, meetings: Sequence[str]) -> dict[str, list[Turn]]:
    """Turns of each meeting from its words."""
    resource = request.find({"": "corpusResources/meetings.xml"})[""]
    people = {
        (meeting.get("observation"), agent.get("nxt_agent")): agent.get("global_name")
        for meeting in read_xml(resource).iter("meeting")
        for agent in meeting.iter("speaker")
    }
    folder = resource.parents[1] / "words"
    files = {name: sorted(folder.glob(f"{name}.*.words.xml")) for name in meetings}
    silent = [f"words/{name}.*.words.xml" for name in meetings if not files[name]]
    if silent:
        raise request.lacks(silent, len(meetings))
    kinds = KINDS[request.reference]
    turns: dict[str, list[Turn]] = {}
    untimed = 0
    for name, paths in files.items():
        turns[name] = []
        for path in paths:
            agent = path.name.split(".")[1]
            speaker = people.get((name, agent)) or f"{name}.{agent}"
            for sound in read_words(path):
                if sound.kind not in kinds or sound.punctuation:
                    continue
                if sound.start is None or sound.end is None or sound.end < sound.start:
                    untimed += 1
                else:
                    turns[name].append(Turn(sound.start, sound.end, speaker))
        turns[name] = merge(turns[name])
    if untimed:
        request.notes.append(
            f"{untimed} words have no times, or end before they start; they are left out"
        )
    return turns


if __name__ == "__main__":
    sys.exit(prepare(BENCHMARK, read))
