#!/usr/bin/env bash
# The default model from its data, on two CPU cores or a GPU:
#   recipes/default_model/run.sh [--corpus DIR] [--real DIR] [--stage N] [--stop_stage N]
#     [--output DIR] [--precision NAME] [--toy]
# Stages: 0 prepare  1 first steps, those of recipes/mini  2 further steps  3 package  4 evaluate.
# A stage that was cut off goes on where it stopped. Options are those of recipes/mini/run.sh.
# --output keeps first/ (what recipes/mini keeps: the test sets and the first steps), data/, an
# experiment per further step, model/ (as packaged), evaluation/, robustness/ and streaming/.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
corpus=$here/../shared/speech real=$here/../shared/real output=$here/exp/default stage=0 stop_stage=4
passed=() few="" hours=6 short=() tried=() brief=()
model=conf/small.yaml
while [ $# -gt 0 ]; do
  case $1 in
    --toy)
      passed+=(--toy) tried=(--toy) model=conf/tiny.yaml few=2 hours=0.017
      short=(--config min_utterances=2 --config max_utterances=3)
      brief+=(trainer.max_steps=4 trainer.log_every=2 trainer.validate_every=4)
      brief+=(diarizer.front_end.mel.prior_seconds=5)  # as conf/small.yaml, to stream
      shift
      continue
      ;;
    --corpus) corpus=$2 ;; --real) real=$2 ;; --output) output=$2 ;;
    --precision) passed+=(--precision "$2") brief+=("trainer.precision=$2") ;;
    --stage) stage=$2 ;; --stop_stage) stop_stage=$2 ;;
    *) echo "run.sh: unknown option $1; see the head of this file" >&2; exit 2 ;;
  esac
  shift 2
done
corpus=$(realpath "$corpus") real=$(realpath -m "$real") output=$(realpath -m "$output")
cd "$here"
PATH=$here/.venv/bin:$PATH
first=$output/first data=$output/data
# Chosen on sessions of development, see RESULTS.md.
settings=(window=240 batch_size=2 postprocess.min_duration_on=0.24)

log() { echo "$(date +%H:%M:%S) $*" >&2; }

if [ "$stage" -le 1 ]; then
  last=$((stop_stage < 1 ? stop_stage : 1))
  recipes/mini/run.sh --corpus "$corpus" --real "$real" --output "$first" "${passed[@]}" \
    --stage "$stage" --stop_stage "$last"
fi

if [ "$stage" -le 0 ] && [ "$stop_stage" -ge 0 ]; then
  log "stage 0: noises, and sessions of development in noises and rooms that training never hears"
  python recipes/default_model/noises.py "$corpus" "$data/noises" --hours "$hours" \
    --rir "$first/data/rir_train.jsonl"
  diarize simulate "$corpus/dev.jsonl" --config conf/simulate.yaml \
    --config "num_speakers=[0,1,1,1]" "${short[@]}" --num-sessions "${few:-60}" --seed 1 \
    --noise "$data/noises/noise_heldout.jsonl" --rir "$data/noises/rir_heldout.jsonl" \
    --output "$data/unheard" > /dev/null
fi

train() {  # train NAME SETTING...: one step, by conf/NAME.yaml on top of conf/long.yaml
  local name=$1
  shift
  log "stage 2: training $output/$name"
  diarize train "$model" recipes/ablation/conf/sinusoidal.yaml diarizer.encoder.num_layers=4 \
    conf/long.yaml "recipes/default_model/conf/$name.yaml" \
    "data.utterances=$corpus/train.jsonl" "data.noise=$data/noises/noise.jsonl" \
    "data.rir=$data/noises/rir.jsonl" "data.validation=$data/unheard/manifest.jsonl" "$@" \
    "${brief[@]}" --output "$output/$name" --resume > /dev/null
}

if [ "$stage" -le 2 ] && [ "$stop_stage" -ge 2 ]; then
  train robust "init=$first/last"
fi

if [ "$stage" -le 3 ] && [ "$stop_stage" -ge 3 ] && [ ! -e "$output/model/model.safetensors" ]; then
  log "stage 3: packaging $output/model"
  python recipes/mini/package.py "$output/robust" "$output/packaged" "${settings[@]}"
  diarize calibrate "$data/unheard/manifest.jsonl" --model "$output/packaged" \
    --posteriors "$output/posteriors" --picture "$output/reliability.png" --output "$output/model"
fi

if [ "$stage" -le 4 ] && [ "$stop_stage" -ge 4 ]; then
  log "stage 4: evaluating $output/model"
  tests=$first/data
  sets=("$data/unheard" "$tests"/{test_2spk,test_3spk,test_4spk})
  if [ -f "$real/test.jsonl" ]; then
    sets+=("real_dev=$real/dev.jsonl" "real_test=$real/test.jsonl")
  fi
  judge=(recipes/default_model/evaluate.sh --model "$output/model")
  "${judge[@]}" --output "$output/evaluation" "${sets[@]}"
  recipes/default_model/robustness.sh --corpus "$corpus" --rooms "$tests/rir_test.jsonl" \
    --sessions "$tests/test_2spk/manifest.jsonl" --output "$data/robustness" "${tried[@]}"
  "${judge[@]}" --output "$output/robustness" "$data"/robustness/*/
  "${judge[@]}" --output "$output/streaming" --first 20 --batch-size 16 --latency offline \
    --latency 10s --latency 1.04s --latency 0.32s "$data/unheard" "$tests/test_2spk"
fi
