#!/usr/bin/env bash
# NOTSOFAR-1, from the folder of the corpus to DER: recipes/notsofar1/run.sh --corpus DIR
# Options and stages: the head of recipes/benchmark.sh. Splits, microphones, references: prepare.py.
recipe=notsofar1 splits=(eval_small) microphone=sc reference=utterances condition=(--collar 0)
training=train validation=dev
source "$(dirname "${BASH_SOURCE[0]}")/../benchmark.sh"
