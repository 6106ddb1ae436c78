#!/usr/bin/env bash
# LibriCSS, from the folder of the corpus to DER: recipes/libricss/run.sh --corpus DIR
# Options and stages: the head of recipes/benchmark.sh. Splits, microphones, references: prepare.py.
recipe=libricss splits=(test) microphone=sdm reference=utterances condition=(--collar 0)
source "$(dirname "${BASH_SOURCE[0]}")/../benchmark.sh"
