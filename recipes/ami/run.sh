#!/usr/bin/env bash
# AMI, from the folder of the corpus to DER: recipes/ami/run.sh --corpus DIR
# Options and stages: the head of recipes/benchmark.sh. Splits, microphones, references: prepare.py.
recipe=ami splits=(dev test) microphone=sdm reference=only_words condition=(--collar 0)
training=train validation=dev
source "$(dirname "${BASH_SOURCE[0]}")/../benchmark.sh"
