#!/usr/bin/env bash
# A model on sets of sessions, as one Markdown table on standard output and in DIR/table.md:
#   recipes/default_model/evaluate.sh --model NAME|PATH --output DIR [--latency NAME]... [--first N]
#     [--postprocess PATH] [--batch-size N] [--device NAME] SET...
# SET: a folder with manifest.jsonl, which the row is named after, or NAME=MANIFEST.
# --latency: a row each, such as offline, 10s, 1.04s and 0.32s; by default as the model recommends.
# --first: so many sessions of each set. The last three are those of `diarize infer`.
# --output keeps sys/ and scores/, both by row. A row that this model has judged is not judged again.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
model="" output="" first="" sets=() latencies=() options=()
while [ $# -gt 0 ]; do
  case $1 in
    --model) model=$2 ;; --output) output=$(realpath -m "$2") ;; --latency) latencies+=("$2") ;;
    --first) first=$2 ;; --postprocess | --batch-size | --device) options+=("$1" "$2") ;;
    -*) echo "evaluate.sh: unknown option $1; see the head of this file" >&2; exit 2 ;;
    *=*) sets+=("${1%%=*}=$(realpath "${1#*=}")"); shift; continue ;;
    *) sets+=("$(basename "$1")=$(realpath "$1/manifest.jsonl")"); shift; continue ;;
  esac
  shift 2
done
if [ -z "$model" ] || [ -z "$output" ] || [ ${#sets[@]} = 0 ]; then
  echo "evaluate.sh: needs --model, --output and a set; see the head of this file" >&2
  exit 2
fi
if [ -e "$model" ]; then model=$(realpath "$model"); fi
cd "$here"
PATH=$here/.venv/bin:$PATH
mkdir -p "$output/sys" "$output/scores"

judge() {  # judge ROW MANIFEST OPTION...: infer, unless it is done, and score
  local row=$1 manifest=$2 system=$output/sys/$1 scores=$output/scores/$1
  shift 2
  local made="$model $manifest $*"
  if [ "$(cat "$system/done" 2> /dev/null)" != "$made" ] ||
    [ "$model/model.safetensors" -nt "$system/done" ]; then
    echo "$(date +%H:%M:%S) judging $row" >&2
    rm -rf "$system"
    diarize infer --manifest "$manifest" --model "$model" --output "$system" "$@"
    echo "$made" > "$system/done"
  fi
  diarize score "$manifest" "$system" --condition full,fair --format text,json --output "$scores"
  written+=("$scores.json")
}

written=()
for set in "${sets[@]}"; do
  name=${set%%=*} manifest=${set#*=}
  if [ -n "$first" ]; then
    part=$output/$name.first_$first.jsonl
    python -c 'import sys; from diarize.manifest import read_manifest, write_manifest
write_manifest(sys.argv[3], read_manifest(sys.argv[2])[: int(sys.argv[1])])' \
      "$first" "$manifest" "$part"
    manifest=$part
  fi
  if [ ${#latencies[@]} = 0 ]; then judge "$name" "$manifest" "${options[@]}"; fi
  for latency in "${latencies[@]}"; do
    judge "$name.$latency" "$manifest" --latency "$latency" "${options[@]}"
  done
done
python recipes/default_model/table.py "${written[@]}" | tee "$output/table.md"
