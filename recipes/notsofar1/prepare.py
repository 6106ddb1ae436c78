"""NOTSOFAR-1: meetings of three to eight people in thirty offices, six minutes each.

A split is a version of the corpus, and its folder is its list; of the two evaluation sets it is
known how many meetings they have. Every device that recorded a meeting makes a session of its own.

On disk, anywhere below the folder, as it is downloaded::

    240629.1_eval_small_with_GT/MTG/MTG_32000/devices.json
    240629.1_eval_small_with_GT/MTG/MTG_32000/gt_transcription.json
    240629.1_eval_small_with_GT/MTG/MTG_32000/sc_meetup_0/ch0.wav       sc
    240629.1_eval_small_with_GT/MTG/MTG_32000/mc_rockfall_0/ch0.wav     mc, the first channel
    240629.1_eval_small_with_GT/MTG/MTG_32000/close_talk/CT_21.wav      mhm, the mean of all

References: ``utterances`` as they were transcribed; ``words`` with their times, those of a speaker
that touch joined; ``forced_alignment``, that of popcornell/FastMSS (an archive in ``resources/``),
which covers dev and eval_small; ``--rttm`` names the folder of its files.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

from diarize.benchmark import OTHERS, Benchmark, Labelled, Request, prepare
from diarize.errors import CorpusError
from diarize.files import read_lines
from diarize.formats.seglst import Utterance, read_seglst
from diarize.turns import Turn, merge

VERSIONS = {
    "eval_small": "240629.1_eval_small_with_GT",
    "eval_full": "240825.1_eval_full_with_GT",
    "dev": "240825.1_dev1",
    "train": "240825.1_train",
}

MEETINGS = {"eval_small": 80, "eval_full": 129}

BENCHMARK = Benchmark(
    "NOTSOFAR-1",
    "Get the versions as https://github.com/microsoft/NOTSOFAR1-Challenge says, or from "
    "https://huggingface.co/datasets/microsoft/NOTSOFAR.",
    splits=tuple(VERSIONS),
    microphones=("sc", "mc", "mhm"),
    references=("utterances", "words", OTHERS),
)


def read(request: Request) -> list[Labelled]:
    """The sessions of a version, meeting by meeting."""
    place = f"{VERSIONS[request.split]}/MTG"
    devices = {path.parent.name: path for path in request.files(f"{place}/*/devices.json")}
    if not devices:
        raise request.lacks([f"{place}/*/devices.json"], 1)
    if len(devices) != MEETINGS.get(request.split, len(devices)):
        raise CorpusError(
            f"{request.corpus}: {place} has {len(devices)} meetings, but {request.split} of "
            f"NOTSOFAR-1 has {MEETINGS[request.split]}. {BENCHMARK.source}"
        )
    texts = request.find({name: f"{place}/{name}/gt_transcription.json" for name in devices})
    if request.reference == OTHERS:
        turns = request.turns_of_others(devices, meeting_of)
    else:
        turns = {name: spoken(read_seglst(texts[name]), request.reference) for name in devices}
    sessions, missing = [], []
    for name, path in devices.items():
        for session_id, files in recordings(name, path, request.microphone).items():
            missing += [str(file) for file in files if not file.is_file()]
            audio = files if request.microphone == "mhm" else files[0]
            extra = {"meeting": name}
            sessions.append(Labelled(session_id, audio, turns[name], extra=extra))
    if missing:
        raise request.lacks(missing, len(sessions))
    return sessions


def recordings(meeting: str, devices: Path, microphone: str) -> dict[str, list[Path]]:
    """Session id -> files that make it, by the corpus's own list of a meeting's devices."""
    worn: list[Path] = []
    found: dict[str, list[Path]] = {}
    for device in read_devices(devices):
        names = [name.strip() for name in device["wav_file_names"].split(",")]
        files = [devices.parent / name for name in names]
        if device["is_close_talk"]:
            worn += files
        elif device["is_mc"] == (microphone == "mc"):
            found[f"{meeting}_{files[0].parent.name}"] = files[:1]
    return {meeting: worn} if microphone == "mhm" else found


def read_devices(path: Path) -> list[dict[str, Any]]:
    """What recorded a meeting."""
    try:
        devices = json.loads("\n".join(read_lines(path, CorpusError)))
        known = all({"wav_file_names", "is_close_talk", "is_mc"} <= row.keys() for row in devices)
    except (json.JSONDecodeError, AttributeError, TypeError):
        known = False
    if not known:
        raise CorpusError(
            f"{path}: is no list of devices with wav_file_names, is_close_talk and is_mc, but "
            "NOTSOFAR-1 has one for each meeting. Get the file again."
        )
    return list(devices)


def spoken(utterances: list[Utterance], reference: str) -> list[Turn]:
    """Turns of a meeting."""
    if reference == "utterances":
        return [Turn(u.start, u.end, u.speaker) for u in utterances if u.end > u.start]
    return merge(
        Turn(float(start), float(end), utterance.speaker)
        for utterance in utterances
        for word, start, end in utterance.extra["word_timing"]
        if end > start and "<" not in word
    )


def meeting_of(name: str) -> str:
    """The meeting of which others call a recording ``S32000201``."""
    return re.sub(r"^S(\d{5})\d*$", r"MTG_\1", name)


if __name__ == "__main__":
    sys.exit(prepare(BENCHMARK, read))
