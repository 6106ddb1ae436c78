#!/usr/bin/env bash
# AliMeeting, from the folder of the corpus to DER: recipes/alimeeting/run.sh --corpus DIR
# Options and stages: the head of recipes/benchmark.sh. Splits, microphones, references: prepare.py.
recipe=alimeeting splits=(eval test) microphone=far reference=textgrid condition=(--collar 0)
training=train validation=eval
source "$(dirname "${BASH_SOURCE[0]}")/../benchmark.sh"
