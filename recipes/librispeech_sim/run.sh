#!/usr/bin/env bash
# LibriSpeech, from utterances to DER on simulated sessions of two to four:
# recipes/librispeech_sim/run.sh --corpus DIR. Options and stages: the head of recipes/simulated.sh.
recipe=librispeech_sim mixtures=500 last=long hears=(--window 240)
sets=(dev_2spk:dev:2:1 test_2spk:test:2:2 test_3spk:test:3:3 test_4spk:test:4:4)
tests=(test_2spk test_3spk test_4spk)
learn() {  # the curriculum of recipes/mini, on sessions that never repeat
  local validation=data.validation=$data/dev_2spk/manifest.jsonl
  train voices 700 conf/voices.yaml "${fresh[@]}"
  train easy 300 conf/easy.yaml "${fresh[@]}" "init=$output/voices"
  train short 4000 conf/short.yaml "${fresh[@]}" "$validation" "init=$output/easy"
  train long 3600 conf/long.yaml "${fresh[@]}" "$validation" "init=$output/short"
}
source "$(dirname "${BASH_SOURCE[0]}")/../simulated.sh"
