#!/usr/bin/env bash
# VoxConverse, from the folder of the corpus to DER: recipes/voxconverse/run.sh --corpus DIR
# Options and stages: the head of recipes/benchmark.sh. Splits, microphones, references: prepare.py.
recipe=voxconverse splits=(dev test) microphone=mono reference=v0_3 condition=(--collar 0)
source "$(dirname "${BASH_SOURCE[0]}")/../benchmark.sh"
