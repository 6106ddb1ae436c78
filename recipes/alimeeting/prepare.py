"""AliMeeting: Mandarin meetings of two to four people, by an array and by everybody's headset.

On disk, anywhere below the folder, as OpenSLR's archives are unpacked::

    Eval_Ali/Eval_Ali_far/audio_dir/R8001_M8004_MS801.wav            eight channels
    Eval_Ali/Eval_Ali_far/textgrid_dir/R8001_M8004.TextGrid          a tier for each speaker
    Eval_Ali/Eval_Ali_near/audio_dir/R8001_M8004_N_SPK8013.wav       one speaker each
    Eval_Ali/Eval_Ali_near/textgrid_dir/R8001_M8004_N_SPK8013.TextGrid
    Train_Ali_far/..., Train_Ali_near/..., Test_Ali/...              likewise

Microphones: ``far`` is the array, of which the first channel is heard; ``near`` is the mean of a
meeting's headsets, written to ``audio/`` of the output. References: ``textgrid``, the transcripts
of people, in which an interval with a text is a turn; ``forced_alignment`` is that of
nttcslab-sp/diar-forced-alignment, whose clone ``--rttm`` names, one for both microphones.
"""

import sys
from collections.abc import Mapping
from pathlib import Path

from diarize.benchmark import OTHERS, Benchmark, Labelled, Request, prepare, read_list
from diarize.errors import CorpusError
from diarize.formats.textgrid import read_textgrid
from diarize.turns import Turn

LISTS = Path(__file__).parents[2] / "manifests" / "alimeeting"

BENCHMARK = Benchmark(
    "AliMeeting",
    "Get Test_Ali.tar.gz, Eval_Ali.tar.gz and, to train, Train_Ali_far.tar.gz or "
    "Train_Ali_near.tar.gz from https://www.openslr.org/119/.",
    splits=("test", "eval", "train"),
    microphones=("far", "near"),
    references=("textgrid", OTHERS),
)


def read(request: Request) -> list[Labelled]:
    """The meetings of a split."""
    folder = f"{request.split.title()}_Ali_{request.microphone}"
    recordings = by_meeting(request, f"{folder}/audio_dir/*.wav")
    labels = by_meeting(request, f"{folder}/textgrid_dir/*.TextGrid")
    if request.split == "train":
        meetings = sorted(recordings.keys() | labels.keys())
    else:
        meetings = read_list(LISTS / f"{request.split}.txt")
    missing = [] if meetings else [f"{folder}/audio_dir/*.wav"]
    for meeting in meetings:
        heard, said = recordings.get(meeting, {}), labels.get(meeting, {})
        for who in sorted(heard.keys() | said.keys()) or [""]:
            name = f"{meeting}_{who}" if who else f"{meeting}*"
            if who not in heard:
                missing.append(f"{folder}/audio_dir/{name}.wav")
            if who not in said:
                missing.append(f"{folder}/textgrid_dir/{name}.TextGrid")
    if missing:
        there = sum(len(files) for kind in (recordings, labels) for files in kind.values())
        raise request.lacks(missing, there + len(missing))
    if request.reference == OTHERS:
        turns = request.turns_of_others(meetings)
    else:
        turns = {meeting: transcribed(labels[meeting]) for meeting in meetings}
    channel = 0 if request.microphone == "far" else None
    return [Labelled(m, list(recordings[m].values()), turns[m], channel=channel) for m in meetings]


def by_meeting(request: Request, pattern: str) -> dict[str, dict[str, Path]]:
    """Files by room and meeting, then by whose headset it is; an array is nobody's."""
    found: dict[str, dict[str, Path]] = {}
    for path in request.files(pattern):
        room, meeting, *rest = path.stem.split("_")
        who = "_".join(rest) if len(rest) > 1 else ""
        others = found.setdefault(f"{room}_{meeting}", {})
        if who in others:
            raise CorpusError(
                f"{request.corpus}: {path.name!r} is beside {others[who]}, but one is needed. "
                "Name a folder that has only one of them."
            )
        others[who] = path
    return dict(sorted(found.items()))


def transcribed(labels: Mapping[str, Path]) -> list[Turn]:
    """A turn for every interval with a text.

    Speakers are called as in ``forced_alignment``, ``N_SPK8013``: so ends the name of a tier in the
    transcript of an array, and the name of the transcript of a headset.
    """
    return [
        turn
        for who, path in labels.items()
        for tier in read_textgrid(path)
        for turn in tier.turns(who or "_".join(tier.name.split("_")[-2:]))
    ]


if __name__ == "__main__":
    sys.exit(prepare(BENCHMARK, read))
