#!/usr/bin/env bash
# SortFormer as first described against a plain Transformer, on two CPU cores:
#   recipes/ablation/run.sh [--corpus DIR] [--model NAME] [--tasks LIST] [--jobs N]
#     [--stage N] [--stop_stage N] [--output DIR] [--toy]
# Stages: 0 data  1 cells  2 tables and pictures. What is there is not made again: a run that was cut
# off goes on with the cells that are missing.
# --corpus: of speech, as recipes/mini/prepare.py describes it. --model: whose front end makes
#   embeddings of it; default: the packaged one.
# --tasks: of set,speech2,speech4; --jobs: cells at once, each on one thread; default: one a core.
# --toy: two cells a task, of a few sessions and two steps, to see the way.
# --output keeps data/, results.jsonl (what cells measured), runs/ (some checkpoints), tables.md and
#   pictures.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
corpus=$here/../shared/speech model=default tasks=set,speech2,speech4 output=$here/exp/ablation
stage=0 stop_stage=2 jobs=() counts=() sessions=() toy=()
while [ $# -gt 0 ]; do
  case $1 in
    --toy)
      counts=(--train 8 --others 4) sessions=(--sessions 8 --dev 4 --test 4) toy=(--toy)
      shift
      continue
      ;;
    --corpus) corpus=$2 ;; --model) model=$2 ;; --tasks) tasks=$2 ;; --jobs) jobs=(--jobs "$2") ;;
    --stage) stage=$2 ;; --stop_stage) stop_stage=$2 ;; --output) output=$2 ;;
    *) echo "run.sh: unknown option $1; see the head of this file" >&2; exit 2 ;;
  esac
  shift 2
done
corpus=$(realpath "$corpus") output=$(realpath -m "$output")
cd "$here"
PATH=$here/.venv/bin:$PATH
data=$output/data

log() { echo "$(date +%H:%M:%S) $*" >&2; }

if [ "$stage" -le 0 ] && [ "$stop_stage" -ge 0 ]; then
  log "stage 0: data for $tasks in $data"
  mkdir -p "$data"
  case ,$tasks, in *,set,*)
    python recipes/set_labelling/prepare.py synthetic "$data/set" "${sessions[@]}"
  esac
  case ,$tasks, in *,speech*)
    python recipes/mini/prepare.py "$corpus" "$data/rooms"
  esac
  for speakers in 2 4; do
    case ,$tasks, in *,speech$speakers,*)
      python recipes/ablation/embed.py "$model" "$corpus" "$data/rooms" "$data/speech$speakers" \
        --speakers "$speakers" "${counts[@]}"
    esac
  done
fi

if [ "$stage" -le 1 ] && [ "$stop_stage" -ge 1 ]; then
  log "stage 1: cells in $output/results.jsonl"
  python recipes/ablation/ablate.py "$data" "$output" --tasks "$tasks" "${jobs[@]}" "${toy[@]}"
fi

if [ "$stage" -le 2 ] && [ "$stop_stage" -ge 2 ]; then
  log "stage 2: tables and pictures in $output"
  python recipes/ablation/report.py "$output/results.jsonl" > "$output/tables.md"
  python recipes/ablation/draw.py results "$output/results.jsonl" "$output"
fi
