"""How well a front end tells voices apart that it has never heard: its equal error rate.

    python recipes/default_model/voices.py exp/voices ../shared/speech/dev.jsonl

Of each utterance of two seconds or more (``--shortest``), the first four at most are one voice:
the mean of the front end's embeddings over their frames. All pairs of utterances are tried; their
score is the cosine of the two voices; centred, of the voices less the mean of all. At the equal
error rate, as large a share of the pairs of one speaker scores too low as of the pairs of two
speakers too high. Where the manifest says which `corpus` an utterance is from, a second row leaves
out pairs from two of them, which the recording tells apart. Intervals are of 95 %, by drawing
speakers again.
"""

import argparse
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from diarize.audio import read_audio
from diarize.checkpoint import load_checkpoint
from diarize.errors import DiarizeError, ManifestError
from diarize.manifest import Session, read_manifest
from diarize.model import Diarizer
from diarize.score.resample import interval

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LONGEST = 4.0
"""Seconds that are heard of an utterance."""

CLIPS = 10
"""Utterances of a speaker at most, evenly spread over all of theirs."""

NUM_DRAWS = 500


@dataclass(frozen=True)
class Trials:
    """Pairs of utterances.

    Attributes:
        first, second: (trial,) their places in the list of utterances.
        one, other: (trial,) index of their speakers.
    """

    first: Ints
    second: Ints
    one: Ints
    other: Ints

    @property
    def same(self) -> NDArray[np.bool_]:
        """(trial,) whether it is one speaker's."""
        return self.one == self.other

    def error(self, voices: Floats, num_draws: int) -> tuple[float, float, float]:
        """Equal error rate of voices (utterance, D), and the ends of its interval."""
        voices = voices / np.linalg.norm(voices, axis=1, keepdims=True)
        score = np.einsum("td,td->t", voices[self.first], voices[self.second])
        order = np.argsort(score)
        score, same = score[order], self.same[order]
        one, other = self.one[order], self.other[order]
        rate = equal_error_rate(score, same, np.ones(len(score)))
        generator = np.random.default_rng(0)
        num_speakers = int(max(one.max(), other.max())) + 1
        draws = []
        for _ in range(num_draws):
            drawn = generator.integers(num_speakers, size=num_speakers)
            times = np.bincount(drawn, minlength=num_speakers)
            weight = np.where(same, times[one], times[one] * times[other]).astype(np.float64)
            if weight[same].any() and weight[~same].any():
                draws.append(equal_error_rate(score, same, weight))
        return rate, *interval(np.array(draws))


def equal_error_rate(score: Floats, same: NDArray[np.bool_], weight: Floats) -> float:
    """Where as many are taken for two who are one as for one who are two.

    Between two thresholds, the shares of both go along a straight line, as they would for one
    drawn between them.

    Args:
        score: (trial,), rising.
        same: (trial,), whether it is one speaker's.
        weight: (trial,), how often it counts; each kind counts somewhere.
    """
    last = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)  # of each score
    below = np.cumsum(np.where(same, weight, 0.0))[last]
    above = np.cumsum(np.where(same, 0.0, weight))[last]
    missed = np.append(0.0, below / below[-1])  # threshold above the lowest scores, by and by
    taken = np.append(1.0, 1.0 - above / above[-1])
    after = int(np.argmax(missed >= taken))
    gap = taken - missed
    share = gap[after - 1] / (gap[after - 1] - gap[after])
    return float(missed[after - 1] + share * (missed[after] - missed[after - 1]))


def clips(path: Path, shortest: float) -> list[Session]:
    """What is heard: a few utterances of each speaker, of so many seconds at least."""
    spoken = defaultdict(list)
    for utterance in read_manifest(path):
        if utterance.speaker is None:
            raise ManifestError(
                f"{utterance.where}: names no speaker, but voices are told apart. Give 'speaker'."
            )
        if utterance.duration is None or utterance.duration >= shortest:
            spoken[utterance.speaker].append(utterance)
    chosen = []
    for _, said in sorted(spoken.items()):
        places = np.linspace(0, len(said) - 1, min(CLIPS, len(said)))
        chosen += [said[round(place)] for place in places]
    return chosen


def pairs(utterances: list[Session], within: bool) -> Trials:
    """All pairs of utterances, or those within one corpus."""
    speaker = np.unique([str(u.speaker) for u in utterances], return_inverse=True)[1]
    corpus = np.array([str(u.extra.get("corpus")) for u in utterances])
    first, second = np.triu_indices(len(utterances), 1)
    if within:
        kept = corpus[first] == corpus[second]
        first, second = first[kept], second[kept]
    return Trials(first, second, speaker[first], speaker[second])


@torch.inference_mode()
def embed(diarizer: Diarizer, utterances: list[Session], batch_size: int = 16) -> Floats:
    """(utterance, D), mean embeddings; those of like length go through the network together."""
    length = [min(u.duration or LONGEST, LONGEST) for u in utterances]
    most = round(LONGEST * diarizer.grid.sample_rate)
    voices = np.empty((len(utterances), diarizer.front_end.embedding_dim))
    order = np.argsort(length, kind="stable")
    for rows in np.array_split(order, -(-len(order) // batch_size)):
        said = [utterances[row] for row in rows]
        spans = [(u.audio, u.offset, u.duration and min(u.duration, LONGEST)) for u in said]
        heard = [torch.from_numpy(read_audio(*span)[:most]) for span in spans]
        signal = torch.nn.utils.rnn.pad_sequence(heard, batch_first=True)
        embedding, num_frames = diarizer.embed(signal, torch.tensor([len(w) for w in heard]))
        for row, frames, count in zip(rows, embedding, num_frames.tolist(), strict=True):
            voices[row] = frames[:count].double().mean(dim=0).numpy()
    return voices


def table(voices: Floats, utterances: list[Session], num_draws: int = NUM_DRAWS) -> list[str]:
    """Rows of Markdown."""
    lines = ["| pairs | of one speaker | of two | raw % | centred % |", "|---|--:|--:|--:|--:|"]
    told = {"all": False}
    if len({u.extra.get("corpus") for u in utterances}) > 1:
        told["of one corpus"] = True
    for name, within in told.items():
        trials = pairs(utterances, within)
        same = int(trials.same.sum())
        two = len(trials.same) - same
        if not same or not two:
            raise ManifestError(
                f"{same} pairs of utterances are of one speaker and {two} of two, but an error "
                "rate needs some of both. Give more utterances, or lower --shortest."
            )
        cells = [name, f"{same:,}", f"{two:,}"]
        for seen in (voices, voices - voices.mean(axis=0)):
            rate, low, high = (100 * part for part in trials.error(seen, num_draws))
            cells.append(f"{rate:.1f} [{low:.1f}, {high:.1f}]")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> int:
    """Embed, pair, tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a packaged model, an experiment's folder or a checkpoint")
    parser.add_argument("manifest", type=Path, help="utterances of speakers it never heard")
    parser.add_argument("--shortest", type=float, default=2.0, metavar="SECONDS")
    args = parser.parse_args()
    try:
        utterances = clips(args.manifest, args.shortest)
        voices = embed(load_checkpoint(args.model), utterances)
        rows = table(voices, utterances)
    except DiarizeError as error:
        print(f"voices.py: {error}", file=sys.stderr)
        return 1
    speakers = len({utterance.speaker for utterance in utterances})
    print(f"{args.model}: {len(utterances)} utterances of {speakers} speakers, {args.manifest}\n")
    print("\n".join(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
