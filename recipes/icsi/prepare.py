"""ICSI: weekly meetings of research groups, three to ten people around one table.

The corpus has no splits of its own; ``manifests/icsi/`` has those of Kaldi and lhotse (Renals and
Swietojanski, HSCMA 2014). The same people meet in all of them.

On disk, anywhere below the folder, as the download page or lhotse lay it out::

    NXT/Bmr021.interaction.wav, or Bmr021/Mix-Headset.wav     mhm
    SPH/Bmr021/chan6.sph                                      sdm
    ICSI/Words/Bmr021.A.words.xml                             of ICSI_core_NXT.zip
    ICSI/Segments/Bmr021.A.segs.xml

References: ``segments`` as the transcribers heard them, where at least one word is in them;
``words`` with their times, those of a speaker that touch joined. One word in twenty has no time,
mostly those of digits that are read aloud, so ``words`` has silence where somebody speaks.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from diarize.benchmark import Benchmark, Labelled, Request, prepare, read_list
from diarize.formats.nxt import Sound, Stretch, read_segments, read_words
from diarize.turns import Turn, merge

LISTS = Path(__file__).parents[2] / "manifests" / "icsi"

RECORDINGS = {
    "sdm": ("{}/chan6.*",),
    "mhm": ("{}.interaction.wav", "{}/Mix-Headset.wav"),
}
"""``chan6`` is the third of the four microphones on the table, which lhotse calls the SDM too."""

BENCHMARK = Benchmark(
    "ICSI",
    "Get audio and ICSI_core_NXT.zip, unpacked, from "
    "https://groups.inf.ed.ac.uk/ami/icsi/download/.",
    splits=("test", "dev", "train"),
    microphones=tuple(RECORDINGS),
    references=("segments", "words"),
)


def read(request: Request) -> list[Labelled]:
    """The meetings of a split."""
    meetings = read_list(LISTS / f"{request.split}.txt")
    places = RECORDINGS[request.microphone]
    audio = request.find({name: [place.format(name) for place in places] for name in meetings})
    first = request.find({name: f"Words/{name}.A.words.xml" for name in meetings})
    turns: dict[str, list[Turn]] = {}
    untimed = 0
    for name in meetings:
        turns[name] = []
        for path in sorted(first[name].parent.glob(f"{name}.*.words.xml")):
            spoken, lost = turns_of(path, request.reference)
            turns[name] += spoken
            untimed += lost
    if untimed:
        request.notes.append(f"{untimed} {request.reference} have no times; they are left out")
    return [Labelled(name, audio[name], turns[name]) for name in meetings]


def turns_of(path: Path, reference: str) -> tuple[list[Turn], int]:
    """Turns of one agent, and how many words or segments have no times."""
    meeting, agent = path.name.split(".")[:2]
    sounds = read_words(path)
    stretches = read_segments(path.parents[1] / "Segments" / f"{meeting}.{agent}.segs.xml")
    names = {stretch.participant for stretch in stretches} - {""}
    speaker = min(names, default=f"{meeting}.{agent}")
    if reference == "segments":
        found = [(s.start, s.end) for s in stretches_with_words(stretches, sounds)]
    else:
        found = list(word_times(sounds))
    timed = [(s, e) for s, e in found if s is not None and e is not None and e >= s]
    turns = [Turn(start, end, speaker) for start, end in timed]
    return merge(turns) if reference == "words" else turns, len(found) - len(timed)


def stretches_with_words(
    stretches: Sequence[Stretch], sounds: Sequence[Sound]
) -> Iterator[Stretch]:
    """Segments that hold more than laughter, noise and comments."""
    places = {sound.name: place for place, sound in enumerate(sounds)}
    spoken = [sound.kind == "w" and not sound.punctuation for sound in sounds]
    for stretch in stretches:
        known = [run for run in stretch.sounds if run[0] in places and run[1] in places]
        if any(any(spoken[places[first] : places[last] + 1]) for first, last in known):
            yield stretch


def word_times(sounds: Sequence[Sound]) -> Iterator[tuple[float | None, float | None]]:
    """Start and end of each word; of several with one start and one end, those of all together."""
    since, waiting = None, 0
    for sound in sounds:
        if sound.kind != "w" or sound.punctuation:
            continue
        if sound.start is not None:  # what began before has no end
            yield from [(None, None)] * waiting
            since, waiting = sound.start, 0
        waiting += 1
        if since is None or sound.end is not None:
            yield since, sound.end if since is not None else None
            since, waiting = None, 0
    yield from [(None, None)] * waiting


if __name__ == "__main__":
    sys.exit(prepare(BENCHMARK, read))
