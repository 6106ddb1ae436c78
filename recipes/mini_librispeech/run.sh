#!/usr/bin/env bash
# Mini LibriSpeech, from utterances to DER on simulated sessions of two: recipes/mini_librispeech/run.sh
# --corpus DIR. Options and stages: the head of recipes/simulated.sh.
recipe=mini_librispeech mixtures=500 last=mixtures hears=(--window 120)
sets=(train_2spk:train:2:0 test_2spk:test:2:1) tests=(test_2spk)
learn() {  # the 500 mixtures are gone through ten times, as by those who published
  train voices 700 conf/voices.yaml "${fresh[@]}"
  train easy 300 conf/easy.yaml "${fresh[@]}" "init=$output/voices"
  train mixtures 4600 conf/long.yaml "data.sessions=$data/train_2spk/manifest.jsonl" "init=$output/easy"
}
source "$(dirname "${BASH_SOURCE[0]}")/../simulated.sh"
