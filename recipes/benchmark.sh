# What the recipes of benchmark sets share: a run.sh says what is true of its corpus, and sources this.
#   recipes/NAME/run.sh --corpus DIR [--split NAME]... [--microphone NAME] [--reference NAME]
#     [--rttm PATH] [--model NAME|PATH] [--train FILE|KEY=VALUE]... [--output DIR] [--stage N]
#     [--stop_stage N] [-- OPTION OF diarize infer...]
# Stages: 0 prepare  1 train  2 infer  3 score. What is there is not made again: remove it for that.
# --split, --microphone, --reference: see prepare.py; without them, what is conventional.
# --train: settings of a model to train on the corpus's own training split, which is then the one
#   that is scored; without it, stage 1 is passed over.
# --output keeps data/ (manifests, RTTM, UEM), train/, sys/ and scores/; exp/NAME unless told.
#
# The run.sh sets: recipe, its folder; splits, those to score; microphone and reference, those to
# score with; condition, options of diarize score that are conventional; training and validation,
# splits to train with, where there are any.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
corpus="" rttm=() model=default settings=() output=$here/exp/$recipe stage=0 stop_stage=3 asked=() options=()
while [ $# -gt 0 ]; do
  case $1 in
    --corpus | --rttm | --split | --microphone | --reference | --model | --train | --output | \
      --stage | --stop_stage)
      if [ $# -lt 2 ]; then echo "run.sh: $1 has no value; see recipes/benchmark.sh" >&2; exit 2; fi
      ;;
  esac
  case $1 in
    --corpus) corpus=$2 ;; --rttm) rttm=(--rttm "$(realpath "$2")") ;;
    --split) asked+=("$2") ;; --microphone) microphone=$2 ;; --reference) reference=$2 ;;
    --model) model=$2 ;; --train) settings+=("$2") ;; --output) output=$2 ;;
    --stage) stage=$2 ;; --stop_stage) stop_stage=$2 ;;
    --) shift; options=("$@"); break ;;
    *) echo "run.sh: unknown option $1; see recipes/benchmark.sh" >&2; exit 2 ;;
  esac
  shift 2
done
if [ -z "$corpus" ] && [ "$stage" -le 0 ]; then
  echo "run.sh: no --corpus is given, but stage 0 reads it. Give its folder." >&2
  exit 2
fi
if [ "${#settings[@]}" -gt 0 ] && [ -z "${training:-}" ]; then
  echo "run.sh: --train is given, but this corpus has no training split. Leave it out." >&2
  exit 2
fi
if [ "${#asked[@]}" -gt 0 ]; then splits=("${asked[@]}"); fi
corpus=$(realpath -m "${corpus:-.}") output=$(realpath -m "$output")
if [ -e "$model" ]; then model=$(realpath "$model"); fi
cd "$here"
PATH=$here/.venv/bin:$PATH
data=$output/data/$microphone.$reference

log() { echo "$(date +%H:%M:%S) $*" >&2; }

if [ "$stage" -le 0 ] && [ "$stop_stage" -ge 0 ]; then
  needed=("${splits[@]}")
  if [ "${#settings[@]}" -gt 0 ]; then needed+=("$training" "$validation"); fi
  for split in "${needed[@]}"; do
    if [ -s "$data/$split.jsonl" ]; then continue; fi
    log "stage 0: prepare $data/$split.jsonl"
    mkdir -p "$output"
    python "recipes/$recipe/prepare.py" "$corpus" "$data" --split "$split" \
      --microphone "$microphone" --reference "$reference" "${rttm[@]}" >&2
  done
fi

if [ "${#settings[@]}" -gt 0 ]; then
  model=$output/train
  if [ "$stage" -le 1 ] && [ "$stop_stage" -ge 1 ]; then
    log "stage 1: train $model"
    diarize train "${settings[@]}" "data.sessions=$data/$training.jsonl" \
      "data.validation=$data/$validation.jsonl" --output "$model" --resume > /dev/null
  fi
fi

systems=$output/sys/$(basename "$model").$microphone
if [ "$stage" -le 2 ] && [ "$stop_stage" -ge 2 ]; then
  mkdir -p "$output/sys"
  for split in "${splits[@]}"; do
    system=$systems.$split
    command=(diarize infer --manifest "$data/$split.jsonl" --model "$model" "${options[@]}")
    if [ -s "$system/done" ] && [ "$(cat "$system/done")" = "${command[*]}" ] &&
      [ -z "$(find "$data/$split.jsonl" "$model" -newer "$system/done" 2> /dev/null)" ]; then
      continue
    fi
    log "stage 2: infer $system"
    rm -rf "$system"
    "${command[@]}" --output "$system"
    echo "${command[*]}" > "$system/done"
  done
fi

if [ "$stage" -le 3 ] && [ "$stop_stage" -ge 3 ]; then
  mkdir -p "$output/scores"
  for split in "${splits[@]}"; do
    scores=$output/scores/$(basename "$systems").$reference.$split
    log "stage 3: score $scores.txt"
    diarize score "$data/$split.jsonl" "$systems.$split" "${condition[@]}" --per-session \
      --format text,json --output "$scores"
    echo "$scores.txt"
    grep -E '^(condition:|session |TOTAL )' "$scores.txt"
  done
fi
