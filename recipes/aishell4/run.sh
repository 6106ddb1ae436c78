#!/usr/bin/env bash
# AISHELL-4, from the folder of the corpus to DER: recipes/aishell4/run.sh --corpus DIR
# Options and stages: the head of recipes/benchmark.sh. Splits, microphones, references: prepare.py.
recipe=aishell4 splits=(test) microphone=array reference=rttm condition=(--collar 0)
source "$(dirname "${BASH_SOURCE[0]}")/../benchmark.sh"
