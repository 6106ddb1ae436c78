#!/usr/bin/env bash
# Earnings-21, from the folder of the corpus to DER: recipes/earnings21/run.sh --corpus DIR
# Options and stages: the head of recipes/benchmark.sh. Splits, microphones, references: prepare.py.
recipe=earnings21 splits=(test) microphone=mono reference=rev condition=(--collar 0)
source "$(dirname "${BASH_SOURCE[0]}")/../benchmark.sh"
