#!/usr/bin/env bash
# CALLHOME, from the folder of the corpus to DER: recipes/callhome/run.sh --corpus DIR
# Options and stages: the head of recipes/benchmark.sh. Splits, microphones, references: prepare.py.
recipe=callhome splits=(part2) microphone=telephone reference=sre2000_key condition=(--collar 0.25)
source "$(dirname "${BASH_SOURCE[0]}")/../benchmark.sh"
