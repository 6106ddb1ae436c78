"""LibriSpeech: read English, to mix conversations of one to four people from.

On disk, as OpenSLR's archives are unpacked::

    LibriSpeech/train-clean-100/...      251 speakers, to train on; --train names other parts
    LibriSpeech/dev-clean/...            40, to choose with
    LibriSpeech/test-clean/...           40, to score with

Written are lists of utterances, ``train.jsonl``, ``dev.jsonl`` and ``test.jsonl``; run.sh mixes
them. Nobody is in two parts.
"""

import sys

from diarize.librispeech import prepare_utterances

LISTS = {"train": ["train-clean-100"], "dev": ["dev-clean"], "test": ["test-clean"]}

if __name__ == "__main__":
    sys.exit(prepare_utterances(LISTS))
