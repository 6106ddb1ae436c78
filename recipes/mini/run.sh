#!/usr/bin/env bash
# Manifest to trained model to DER, on two CPU cores or a GPU:
#   recipes/mini/run.sh [--corpus DIR] [--real DIR] [--stage N] [--stop_stage N] [--output DIR]
# Stages: 0 prepare  1 train  2 infer  3 score. Each skips what exists and resumes what was cut off.
# --corpus: see prepare.py. --real: a folder with dev.jsonl and test.jsonl of labelled conversation.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
corpus=../shared/speech real=../shared/real output=exp/mini stage=0 stop_stage=3
while [ $# -gt 0 ]; do
  case $1 in
    --corpus) corpus=$2 ;; --real) real=$2 ;; --output) output=$2 ;;
    --stage) stage=$2 ;; --stop_stage) stop_stage=$2 ;;
    *) echo "run.sh: unknown option $1; see the head of this file" >&2; exit 2 ;;
  esac
  shift 2
done
PATH=$PWD/.venv/bin:$PATH
data=$output/data
log() { echo "$(date +%H:%M:%S) $*" >&2; }

sessions() {  # sessions NAME SPEAKERS COUNT SEED WEIGHTS ROOMS: EEND-style sessions of one list
  if [ ! -f "$data/$1/manifest.jsonl" ]; then
    log "mixing $3 sessions into $data/$1"
    diarize simulate "$corpus/$2.jsonl" --config conf/simulate.yaml --config "num_speakers=$5" \
      --num-sessions "$3" --seed "$4" --noise "$corpus/noise_$6.jsonl" \
      --rir "$data/rir_$6.jsonl" --output "$data/$1" > /dev/null
  fi
}

train() {  # train NAME CONFIG SETTING...: one step of the curriculum
  local name=$1 config=$2 resume=()
  shift 2
  if [ -f "$output/$name/done" ]; then return; fi
  if [ -f "$output/$name/config.yaml" ]; then resume=(--resume); fi
  log "training $output/$name"
  diarize train conf/small.yaml "$config" "data.utterances=$corpus/train.jsonl" \
    "data.noise=$corpus/noise_train.jsonl" "data.rir=$data/rir_train.jsonl" "$@" \
    --output "$output/$name" "${resume[@]}" > /dev/null
  touch "$output/$name/done"
}

tests() {  # every manifest that is reported on
  echo "$data/test_2spk/manifest.jsonl $data/test_3spk/manifest.jsonl $data/test_4spk/manifest.jsonl"
  if [ -f "$real/test.jsonl" ]; then echo "$real/test.jsonl $real/dev.jsonl"; fi
}

name_of() { case $1 in */manifest.jsonl) basename "$(dirname "$1")" ;; *) echo "real_$(basename "$1" .jsonl)" ;; esac; }

if [ "$stage" -le 0 ] && [ "$stop_stage" -ge 0 ]; then
  log "stage 0: prepare $data"
  python recipes/mini/prepare.py "$corpus" "$data"
  sessions dev dev 60 1 "[0,1,1,1]" train
  sessions test_2spk test 500 2 "[0,1]" test
  sessions test_3spk test 100 3 "[0,0,1]" test
  sessions test_4spk test 100 4 "[0,0,0,1]" test
fi

if [ "$stage" -le 1 ] && [ "$stop_stage" -ge 1 ]; then
  log "stage 1: train"
  train voices conf/voices.yaml
  train easy conf/easy.yaml "init=$output/voices"
  train short conf/short.yaml "init=$output/easy" "data.validation=$data/dev/manifest.jsonl"
  train long conf/long.yaml "init=$output/short" "data.validation=$data/dev/manifest.jsonl"
fi

if [ "$stage" -le 2 ] && [ "$stop_stage" -ge 2 ]; then
  for manifest in $(tests); do
    name=$(name_of "$manifest")
    if [ -d "$output/sys/$name" ]; then continue; fi
    log "stage 2: infer $name"
    diarize infer --manifest "$manifest" --model "$output/long" --output "$output/sys/$name.part"
    mv "$output/sys/$name.part" "$output/sys/$name"
  done
  if [ -f "$real/test.jsonl" ]; then
    python recipes/mini/trivial.py "$real/test.jsonl" "$output/sys"
    python recipes/mini/trivial.py "$real/dev.jsonl" "$output/sys"
  fi
fi

if [ "$stage" -le 3 ] && [ "$stop_stage" -ge 3 ]; then
  for manifest in $(tests); do
    for system in "$output/sys/$(name_of "$manifest")"*; do
      for collar in 0 0.25; do
        log "stage 3: $(basename "$system"), collar $collar s, overlap scored"
        diarize score "$manifest" "$system" --collar "$collar" | tail -n 1
      done
    done
  done
fi
