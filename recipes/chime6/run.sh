#!/usr/bin/env bash
# CHiME-6, from the folder of the corpus to DER: recipes/chime6/run.sh --corpus DIR
# Options and stages: the head of recipes/benchmark.sh. Splits, microphones, references: prepare.py.
recipe=chime6 splits=(dev eval) microphone=U06 reference=utterances condition=(--collar 0)
training=train validation=dev
source "$(dirname "${BASH_SOURCE[0]}")/../benchmark.sh"
