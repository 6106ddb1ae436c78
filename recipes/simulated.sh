# What the recipes of simulated sets share: a run.sh says which, and sources this.
#   recipes/NAME/run.sh --corpus DIR [--noise DIR|MANIFEST] [--rir DIR|MANIFEST] [--precision NAME]
#     [--brief | --toy] [--output DIR] [--stage N] [--stop_stage N]
# Stages: 0 prepare  1 mix  2 train  3 infer  4 score. A stage that was cut off goes on where it stopped.
# --corpus: LibriSpeech, see prepare.py. --noise, --rir: background noises and room responses, a folder
#   of recordings or a manifest; without them, sessions have none.
# --precision: of training; bf16-mixed takes a quarter less time on a CPU that has avx512_bf16.
# --brief: 30 sessions of each kind and at most 90 steps of each training, to see that it
#   learns. --toy: two short sessions and two steps of a tiny model, to see the way.
# --output keeps data/, an experiment per step of training, sys/ and scores/; exp/NAME unless told.
#
# The run.sh sets: recipe, its folder; sets to mix, NAME:LIST:SPEAKERS:SEED; tests, those to score;
# mixtures, how many sessions of each; learn, a function that trains, for which fresh has the settings
# to mix anew from train.jsonl; last, the name of its last step; hears, options of diarize infer.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
corpus="" noise="" rir="" output=$here/exp/$recipe stage=0 stop_stage=4 model=conf/small.yaml
few="" cap="" short=() brief=()
while [ $# -gt 0 ]; do
  case $1 in
    --brief) few=30 cap=90; shift; continue ;;
    --toy)
      few=2 cap=2 model=conf/tiny.yaml
      short=(--config min_utterances=2 --config max_utterances=3)
      brief+=(trainer.log_every=1 data.batch_size=2 data.num_workers=0)
      shift
      continue
      ;;
  esac
  if [ $# -lt 2 ]; then echo "run.sh: $1 has no value; see recipes/simulated.sh" >&2; exit 2; fi
  case $1 in
    --corpus) corpus=$2 ;; --noise) noise=$2 ;; --rir) rir=$2 ;; --output) output=$2 ;;
    --precision) brief+=("trainer.precision=$2") ;;
    --stage) stage=$2 ;; --stop_stage) stop_stage=$2 ;;
    *) echo "run.sh: unknown option $1; see recipes/simulated.sh" >&2; exit 2 ;;
  esac
  shift 2
done
if [ -z "$corpus" ] && [ "$stage" -le 0 ]; then
  echo "run.sh: no --corpus is given, but stage 0 reads it. Give the folder of LibriSpeech." >&2
  exit 2
fi
corpus=$(realpath -m "${corpus:-.}") output=$(realpath -m "$output")
if [ -n "$noise" ]; then noise=$(realpath "$noise"); fi
if [ -n "$rir" ]; then rir=$(realpath "$rir"); fi
cd "$here"
PATH=$here/.venv/bin:$PATH
data=$output/data

log() { echo "$(date +%H:%M:%S) $*" >&2; }

listed() {  # listed NAME GIVEN: the manifest of recordings that are a folder or a manifest
  if [ ! -d "$2" ]; then echo "$2"; return; fi
  if [ ! -s "$data/$1.jsonl" ]; then diarize manifest "$2" --output "$data/$1.jsonl" > /dev/null; fi
  echo "$data/$1.jsonl"
}

mix() {  # mix NAME LIST SPEAKERS SEED: sessions of so many speakers, on disk
  local weights
  weights=$(printf '0,%.0s' $(seq 2 "$3"))1
  log "mixing ${few:-$mixtures} sessions of $3 speakers into $data/$1"
  diarize simulate "$data/$2.jsonl" --config conf/simulate.yaml --config "num_speakers=[$weights]" \
    "${short[@]}" "${given[@]}" --num-sessions "${few:-$mixtures}" --seed "$4" \
    --output "$data/$1" > /dev/null
}

train() {  # train NAME STEPS SETTING...: one step of the curriculum
  local name=$1 steps=$2
  shift 2
  if [ -n "$cap" ] && [ "$steps" -gt "$cap" ]; then steps=$cap; fi
  log "training $output/$name"
  diarize train "$model" "$@" "trainer.max_steps=$steps" "${brief[@]}" --output "$output/$name" \
    --resume > /dev/null
}

if [ "$stage" -le 0 ] && [ "$stop_stage" -ge 0 ]; then
  log "stage 0: prepare $data"
  python "recipes/$recipe/prepare.py" "$corpus" "$data" >&2
fi

given=() fresh=("data.utterances=$data/train.jsonl")
if [ "$stage" -le 2 ] && [ "$stop_stage" -ge 1 ]; then
  for kind in noise rir; do
    if [ -z "${!kind}" ]; then continue; fi
    list=$(listed "$kind" "${!kind}")
    given+=("--$kind" "$list")
    fresh+=("data.$kind=$list")
  done
fi

if [ "$stage" -le 1 ] && [ "$stop_stage" -ge 1 ]; then
  log "stage 1: mix"
  for set in "${sets[@]}"; do
    IFS=: read -r name list speakers seed <<< "$set"
    mix "$name" "$list" "$speakers" "$seed"
  done
fi

if [ "$stage" -le 2 ] && [ "$stop_stage" -ge 2 ]; then
  log "stage 2: train"
  learn
fi

if [ "$stage" -le 3 ] && [ "$stop_stage" -ge 3 ]; then
  mkdir -p "$output/sys"
  for name in "${tests[@]}"; do
    system=$output/sys/$name
    if [ "$system/done" -nt "$output/$last/checkpoints/last.ckpt" ]; then continue; fi
    log "stage 3: infer $name"
    rm -rf "$system"
    diarize infer --manifest "$data/$name/manifest.jsonl" --model "$output/$last" "${hears[@]}" \
      --output "$system"
    touch "$system/done"
  done
fi

if [ "$stage" -le 4 ] && [ "$stop_stage" -ge 4 ]; then
  mkdir -p "$output/scores"
  for name in "${tests[@]}"; do
    scores=$output/scores/$name
    diarize score "$data/$name/manifest.jsonl" "$output/sys/$name" --condition full,fair \
      --per-session --format text,json --output "$scores"
    log "stage 4: $name, collar 0 s and 0.25 s, overlap scored"
    grep -E '^(condition:|session |TOTAL )' "$scores.txt"
  done
fi
