"""Mini LibriSpeech: two small parts of read English, to mix conversations from.

On disk, as OpenSLR's archives are unpacked::

    LibriSpeech/train-clean-5/103/1240/103-1240-0000.flac      28 speakers, to train on
    LibriSpeech/train-clean-5/103/1240/103-1240.trans.txt
    LibriSpeech/dev-clean-2/...                                38 others, to score with

Written are lists of utterances, ``train.jsonl`` and ``test.jsonl``; run.sh mixes them.
"""

import sys

from diarize.librispeech import prepare_utterances

LISTS = {"train": ["train-clean-5"], "test": ["dev-clean-2"]}

if __name__ == "__main__":
    sys.exit(prepare_utterances(LISTS))
