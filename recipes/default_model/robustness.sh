#!/usr/bin/env bash
# Test sets for what the default model meets beside clean talk of two:
#   recipes/default_model/robustness.sh --sessions MANIFEST --rooms MANIFEST --output DIR [--corpus DIR]
#     [--first N] [--toy]
# A folder of DIR each, with manifest.jsonl: nobody speaks, or the first N sessions of MANIFEST are
# spoiled (robustness.py says how); one_speaker, and other_languages, two speakers each of
# test_other.jsonl. What is there is not made again.
# --sessions: simulated ones of test speakers, such as test_2spk/manifest.jsonl of run.sh.
# --rooms: rir_test.jsonl as prepare.py wrote it. --corpus: see recipes/mini/prepare.py.
# --toy: two sessions of a kind, to see the way.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
corpus=$here/../shared/speech sessions="" rooms="" output="" first=40 few="" short=() brief=()
while [ $# -gt 0 ]; do
  case $1 in
    --toy)
      few=2 first=2 short=(--config min_utterances=2 --config max_utterances=3) brief=(--seconds 2)
      shift
      continue
      ;;
    --sessions) sessions=$2 ;; --rooms) rooms=$2 ;; --output) output=$2 ;; --corpus) corpus=$2 ;;
    --first) first=$2 ;;
    *) echo "robustness.sh: unknown option $1; see the head of this file" >&2; exit 2 ;;
  esac
  shift 2
done
if [ -z "$sessions" ] || [ -z "$rooms" ] || [ -z "$output" ]; then
  echo "robustness.sh: needs --sessions, --rooms and --output; see the head of this file" >&2
  exit 2
fi
corpus=$(realpath "$corpus") sessions=$(realpath "$sessions") rooms=$(realpath "$rooms")
output=$(realpath -m "$output")
cd "$here"
PATH=$here/.venv/bin:$PATH

mix() {  # mix NAME LIST COUNT SEED WEIGHTS: EEND-style sessions in noise and rooms for test
  if [ -f "$output/$1/manifest.jsonl" ]; then return; fi
  echo "$(date +%H:%M:%S) mixing ${few:-$3} sessions into $output/$1" >&2
  diarize simulate "$corpus/$2.jsonl" --config conf/simulate.yaml --config "num_speakers=$5" \
    "${short[@]}" --num-sessions "${few:-$3}" --seed "$4" --noise "$corpus/noise_test.jsonl" \
    --rir "$rooms" --output "$output/$1" > /dev/null
}

mix one_speaker test 20 11 "[1]"
mix other_languages test_other 100 12 "[0,1]"
python recipes/default_model/robustness.py "$sessions" "$output" --first "$first" "${brief[@]}" \
  --noise "$corpus/noise_test.jsonl" --rir "$rooms"
