#!/usr/bin/env bash
# What pre-training of the front end buys, on two CPU cores or a GPU:
#   recipes/default_model/pretraining.sh --minutes N --output DIR [--corpus DIR] [--arms LIST]
#     [--model CONFIG] [--toy]
# Each arm pre-trains for N minutes, then learns to diarize for N more, by as many steps of
# conf/easy.yaml and then of conf/short.yaml as all others. Arms:
#   scratch  no pre-training
#   longer   none, and N more minutes of conf/easy.yaml in its place
#   voices   conf/voices.yaml: training voices told apart
#   masked   conf/masked.yaml: masked spans predicted, no labels
#   both     N/2 minutes of conf/masked.yaml, then N/2 of conf/voices.yaml
# Minutes become steps by the pace of this machine, measured first and kept in DIR/pace: keep it
# otherwise idle. What was cut off goes on where it stopped.
# --corpus: see recipes/mini/prepare.py. --toy: a tiny model and few steps, to see the way.
# --output keeps data/, pace/, an experiment per step and arm, and table.md, which is printed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
corpus=$here/../shared/speech output=$here/exp/pretraining minutes=10
arms=scratch,longer,voices,masked,both model=conf/small.yaml sessions=60 paced=24
few=() short=() clips=()
while [ $# -gt 0 ]; do
  case $1 in
    --toy)
      model=conf/tiny.yaml sessions=2 paced=2 short=(--config min_utterances=2)
      short+=(--config max_utterances=3)
      few=(data.batch_size=2 data.num_workers=0 data.simulation.min_voice=2)
      few+=(trainer.log_every=1) clips=(--shortest 1)
      shift
      continue
      ;;
    --minutes) minutes=$2 ;; --output) output=$2 ;; --corpus) corpus=$2 ;; --arms) arms=$2 ;;
    --model) model=$2 ;;
    *) echo "pretraining.sh: unknown option $1; see the head of this file" >&2; exit 2 ;;
  esac
  shift 2
done
corpus=$(realpath "$corpus") output=$(realpath -m "$output")
cd "$here"
PATH=$here/.venv/bin:$PATH
data=$output/data

log() { echo "$(date +%H:%M:%S) $*" >&2; }

train() {  # train NAME CONFIG STEPS SETTING...: one experiment, or the rest of it
  local name=$1 config=$2 steps=$3
  shift 3
  log "training $output/$name, $steps steps"
  mkdir -p "$(dirname "$output/$name")"
  diarize train "$model" "conf/$config.yaml" "data.utterances=$corpus/train.jsonl" \
    "data.noise=$corpus/noise_train.jsonl" "data.rir=$data/rir_train.jsonl" \
    "trainer.max_steps=$steps" "trainer.validate_every=$steps" "${few[@]}" "$@" \
    --output "$output/$name" --resume > /dev/null
}

pace() {  # pace CONFIG SETTING...: seconds a step, of the second half of a short run
  local config=$1 log=$output/pace/$1.log
  shift
  if [ ! -s "$output/pace/$config" ]; then
    rm -rf "$output/pace/$config".*
    mkdir -p "$output/pace"
    train "pace/$config.run" "$config" "$paced" "trainer.log_every=$((paced / 2))" "$@" 2> "$log"
    # A line says how many seconds of audio are heard in one.
    python - "$output/pace/$config.run/config.yaml" "$log" > "$output/pace/$config.new" <<'PYTHON'
import re
import sys

from omegaconf import OmegaConf

config = OmegaConf.load(sys.argv[1])
speed = re.findall(r"(\d+) x real time", open(sys.argv[2], encoding="utf-8").read())[-1]
print(config.data.batch_size * config.data.simulation.duration / max(int(speed), 1))
PYTHON
    mv "$output/pace/$config.new" "$output/pace/$config"
  fi
  log "$config: $(cat "$output/pace/$config") s a step"
}

steps() {  # steps CONFIG SHARE: of so many times the minutes, by the pace
  python -c 'import sys; a = sys.argv; print(max(int(float(a[1]) * float(a[2]) * 60 / float(a[3])), 2))' \
    "$minutes" "$2" "$(cat "$output/pace/$1")"
}

log "data in $data"
if [ ! -f "$data/rir_train.jsonl" ]; then
  python recipes/mini/prepare.py "$corpus" "$data"
fi
if [ ! -f "$data/dev/manifest.jsonl" ]; then
  diarize simulate "$corpus/dev.jsonl" --config conf/simulate.yaml \
    --config "num_speakers=[0,1,1,1]" "${short[@]}" --num-sessions "$sessions" --seed 1 \
    --noise "$corpus/noise_train.jsonl" --rir "$data/rir_train.jsonl" --output "$data/dev" > /dev/null
fi
for config in voices masked easy short; do
  pace "$config"
done

validation=data.validation=$data/dev/manifest.jsonl
mkdir -p "$output"
{
  echo "| pre-training | steps of it | EER raw % | centred % | steps of easy + short | DER % |"
  echo "|---|--:|--:|--:|--:|--:|"
} > "$output/table.new"
for arm in ${arms//,/ }; do
  start=() taught=0
  case $arm in
    scratch) ;;
    longer) taught=$(steps easy 1); train longer/before easy "$taught" ;;
    voices | masked) taught=$(steps "$arm" 1); train "$arm/before" "$arm" "$taught" ;;
    both)
      taught="$(steps masked 0.5) + $(steps voices 0.5)"
      train both/first masked "$(steps masked 0.5)"
      train both/before voices "$(steps voices 0.5)" "init=$output/both/first"
      ;;
    *) echo "pretraining.sh: unknown arm $arm; see the head of this file" >&2; exit 2 ;;
  esac
  rates="- | -"
  if [ -d "$output/$arm/before" ]; then
    start=("init=$output/$arm/before")
    if [ ! -s "$output/$arm/voices.md" ]; then
      log "voices of $output/$arm/before"
      python recipes/default_model/voices.py "$output/$arm/before" "$corpus/dev.jsonl" \
        "${clips[@]}" > "$output/$arm/voices.new"
      mv "$output/$arm/voices.new" "$output/$arm/voices.md"
    fi
    rates=$(awk -F'|' '$2 == " all " { print $5 "|" $6 }' "$output/$arm/voices.md")
  fi
  train "$arm/easy" easy "$(steps easy 0.5)" "${start[@]}"
  train "$arm/short" short "$(steps short 0.5)" "init=$output/$arm/easy" "$validation"
  der=$(python - "$output/$arm/short/metrics.csv" <<'PYTHON'
import csv
import sys

rows = list(csv.DictReader(open(sys.argv[1], newline="")))
print(f"{float([row['val_der'] for row in rows if row.get('val_der')][-1]):.1f}")
PYTHON
  )
  echo "| $arm | $taught | ${rates## } | $(steps easy 0.5) + $(steps short 0.5) | $der |" \
    >> "$output/table.new"
done
mv "$output/table.new" "$output/table.md"
cat "$output/table.md"
