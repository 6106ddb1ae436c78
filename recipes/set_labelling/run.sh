#!/usr/bin/env bash
# Diarization without speech, from nothing to DER in minutes on two CPU cores:
#   recipes/set_labelling/run.sh synthetic|digits [--sessions N] [--name NAME] [--output DIR]
#     [--stage N] [--stop_stage N] [--toy] [KEY=VALUE...]
# Stages: 0 prepare  1 train  2 infer  3 score. A stage that was cut off goes on where it stopped.
# --sessions: how many to train on, the first of data/train.jsonl; 4096 unless told, or up to
#   16384 of synthetic.
# KEY=VALUE: settings of training, such as trainer.max_steps=500; give them a --name of their own.
# --toy: four sessions of each kind and four steps, to see the way.
# --output keeps data/, and in NAME/ the experiment (train/), sys/ and scores/.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
recipe=recipes/set_labelling
kind="" sessions=4096 name="" output="" stage=0 stop_stage=3 counts=() settings=()
while [ $# -gt 0 ]; do
  case $1 in
    synthetic | digits) kind=$1; shift; continue ;;
    --toy)
      sessions=4 counts=(--sessions 4 --dev 4 --test 4)
      settings+=(trainer.max_steps=4 trainer.log_every=2 trainer.validate_every=4 data.num_workers=0)
      shift
      continue
      ;;
    --sessions) sessions=$2 ;; --name) name=$2 ;; --output) output=$2 ;;
    --stage) stage=$2 ;; --stop_stage) stop_stage=$2 ;;
    *=*) settings+=("$1"); shift; continue ;;
    *) echo "run.sh: unknown option $1; see the head of this file" >&2; exit 2 ;;
  esac
  shift 2
done
if [ -z "$kind" ]; then
  echo "run.sh: says neither synthetic nor digits; see the head of this file" >&2
  exit 2
fi
output=$(realpath -m "${output:-$here/exp/set_labelling/$kind}")
cd "$here"
PATH=$here/.venv/bin:$PATH
data=$output/data run=$output/${name:-sessions_$sessions}
case $kind in
  synthetic) tests=(test_seen test_unseen) dim=32 ;;
  digits) tests=(test_seen test_unseen test_turned) dim=64 ;;
esac

log() { echo "$(date +%H:%M:%S) $*" >&2; }

if [ "$stage" -le 0 ] && [ "$stop_stage" -ge 0 ]; then
  log "stage 0: prepare $data"
  mkdir -p "$output"
  python $recipe/prepare.py "$kind" "$data" "${counts[@]}"
fi

if [ "$stage" -le 1 ] && [ "$stop_stage" -ge 1 ]; then
  log "stage 1: train $run/train"
  lines=$(wc -l < "$data/train.jsonl")
  if [ "$sessions" -gt "$lines" ]; then
    echo "run.sh: --sessions is $sessions, but $data/train.jsonl has $lines. Lower it." >&2
    exit 1
  fi
  # Beside the whole list, since paths are relative to it.
  head -n "$sessions" "$data/train.jsonl" > "$data/train_$sessions.jsonl"
  mkdir -p "$run"
  diarize train $recipe/train.yaml "diarizer.front_end.dim=$dim" \
    "data.sessions=$data/train_$sessions.jsonl" "data.validation=$data/dev.jsonl" \
    "${settings[@]}" --output "$run/train" --resume > /dev/null
fi

if [ "$stage" -le 2 ] && [ "$stop_stage" -ge 2 ]; then
  mkdir -p "$run/sys"
  for test in "${tests[@]}"; do
    system=$run/sys/$test
    if [ "$system/done" -nt "$run/train/checkpoints/last.ckpt" ]; then continue; fi
    log "stage 2: infer $test"
    rm -rf "$system"
    diarize infer --manifest "$data/$test.jsonl" --model "$run/train" --output "$system"
    touch "$system/done"
  done
fi

if [ "$stage" -le 3 ] && [ "$stop_stage" -ge 3 ]; then
  mkdir -p "$run/scores"
  for test in "${tests[@]}"; do
    log "stage 3: $test, collar 0 s, overlap scored"
    diarize score "$data/$test.jsonl" "$run/sys/$test" --format text,json \
      --output "$run/scores/$test"
    grep -E '^(session |TOTAL )' "$run/scores/$test.txt"
    if [ ! -s "$output/$test.baselines.txt" ]; then
      python $recipe/baselines.py "$data/$test.jsonl" > "$run/scores/baselines.tmp"
      mv "$run/scores/baselines.tmp" "$output/$test.baselines.txt"
    fi
    cat "$output/$test.baselines.txt"
  done
fi
