#!/usr/bin/env bash
# ICSI, from the folder of the corpus to DER: recipes/icsi/run.sh --corpus DIR
# Options and stages: the head of recipes/benchmark.sh. Splits, microphones, references: prepare.py.
recipe=icsi splits=(dev test) microphone=sdm reference=segments condition=(--collar 0)
training=train validation=dev
source "$(dirname "${BASH_SOURCE[0]}")/../benchmark.sh"
