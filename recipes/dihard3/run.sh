#!/usr/bin/env bash
# DIHARD III, from the folder of the corpus to DER: recipes/dihard3/run.sh --corpus DIR
# Options and stages: the head of recipes/benchmark.sh. Splits, microphones, references: prepare.py.
recipe=dihard3 splits=(eval) microphone=mono reference=ldc condition=(--collar 0)
source "$(dirname "${BASH_SOURCE[0]}")/../benchmark.sh"
