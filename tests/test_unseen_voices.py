"""recipes/default_model/voices.py: equal error rates as they are drawn, and of a model."""

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from scripts import load_script

from diarize.audio import SAMPLE_RATE
from diarize.checkpoint import save_checkpoint
from diarize.config import load_config
from diarize.manifest import Session, read_manifest, write_manifest
from diarize.model import Diarizer, DiarizerConfig

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "default_model"
TINY = ["front_end.width=8", "front_end.num_layers=1", "front_end.num_heads=1"]
TINY += ["front_end.subsampling_channels=4", "encoder.width=8", "encoder.inner=8"]
TINY += ["encoder.num_layers=1", "encoder.num_heads=1"]


@pytest.fixture(scope="module")
def voices() -> ModuleType:
    return load_script(RECIPE / "voices.py")


def rate(voices: ModuleType, same: list[float], two: list[float]) -> float:
    """Of scores of pairs of one speaker, and of pairs of two."""
    score = np.array([*same, *two])
    order = np.argsort(score)
    kinds = np.array([True] * len(same) + [False] * len(two))
    found: float = voices.equal_error_rate(score[order], kinds[order], np.ones(len(score)))
    return found


@pytest.mark.parametrize(
    ("same", "two", "expected"),
    [
        ([0.8, 0.9], [0.1, 0.2], 0.0),  # apart
        ([0.1, 0.2], [0.8, 0.9], 1.0),  # the wrong way round
        ([0.5, 0.5], [0.5], 0.5),  # a coin
        ([1.0, 3.0], [0.0, 2.0], 0.5),  # above 1: half of each
        ([2.0, 4.0, 5.0, 6.0], [0.0, 1.0, 1.5, 3.0], 0.25),  # between 2 and 3: one of four each
        # At 1, none is missed and half is taken; above it, half and half are, then half and none:
        ([1.0, 3.0], [0.0, 1.0], 1 / 4),  # the straight line from (0, 1/2) to (1/2, 0)
        ([0.0, 2.0, 2.0], [1.0], 1 / 3),  # a third is missed all along, while all or none is taken
    ],
)
def test_rates_as_drawn(
    voices: ModuleType, same: list[float], two: list[float], expected: float
) -> None:
    assert rate(voices, same, two) == pytest.approx(expected)


scores = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=12)


@given(same=scores, two=scores)
def test_a_rate_is_where_both_errors_meet(
    voices: ModuleType, same: list[float], two: list[float]
) -> None:
    """Between the best and the worst of the thresholds next to it; mirrored where scores are."""
    found = rate(voices, same, two)
    bounds = []
    for threshold in [-9.0, *range(-4, 6)]:
        missed = np.mean(np.array(same) < threshold)
        taken = np.mean(np.array(two) >= threshold)
        bounds.append((min(missed, taken), max(missed, taken)))
    assert max(low for low, _ in bounds) - 1e-9 <= found <= min(high for _, high in bounds) + 1e-9
    mirrored = rate(voices, [-score for score in two], [-score for score in same])
    assert mirrored == pytest.approx(found)
    assert rate(voices, [2 * s + 1 for s in same], [2 * s + 1 for s in two]) == found


@given(st.integers(0, 2**32 - 1))
def test_a_weight_is_so_many_copies(voices: ModuleType, seed: int) -> None:
    generator = np.random.default_rng(seed)
    score = np.sort(generator.integers(0, 6, 10).astype(float))
    same = np.array([True, False] * 5)
    times = generator.integers(0, 3, 10)
    times[:2] = 1
    weighted = voices.equal_error_rate(score, same, times.astype(float))
    copied = (np.repeat(column, times) for column in (score, same))
    assert voices.equal_error_rate(*copied, np.ones(times.sum())) == pytest.approx(weighted)


def test_pairs_are_of_two_utterances_and_of_one_corpus_if_asked(voices: ModuleType) -> None:
    said = [("a", "x"), ("a", "x"), ("b", "x"), ("c", "y")]
    utterances = [
        Session(f"{n}", Path("u.wav"), speaker=speaker, extra={"corpus": corpus})
        for n, (speaker, corpus) in enumerate(said)
    ]
    trials = voices.pairs(utterances, within=False)
    found = sorted(zip(trials.first, trials.second, trials.same, strict=True))
    assert [(a, b) for a, b, same in found if same] == [(0, 1)]
    assert [(a, b) for a, b, same in found if not same] == [(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    trials = voices.pairs(utterances, within=True)
    assert sorted(zip(trials.first, trials.second, strict=True)) == [(0, 1), (0, 2), (1, 2)]


def test_what_all_voices_share_is_taken_away(voices: ModuleType) -> None:
    """A large constant hides what tells voices apart; an interval holds what it is of."""
    generator = np.random.default_rng(0)
    speakers = np.repeat(np.arange(12), 4)
    drawn = generator.normal(size=(12, 8))[speakers] + 0.8 * generator.normal(size=(48, 8))
    utterances = [Session(f"{n}", Path("u.wav"), speaker=f"{s}") for n, s in enumerate(speakers)]
    raw, low, high = voices.pairs(utterances, False).error(drawn - drawn.mean(axis=0), 50)
    assert 0 < low <= raw <= high < 0.5
    heavy = drawn + 100 * np.ones(8)
    (row,) = voices.table(heavy, utterances, num_draws=20)[2:]
    name, same, two, with_it, without = (cell.strip() for cell in row.strip("|").split("|"))
    assert (name, same, two) == ("all", "72", "1,056")
    assert float(without.split()[0]) == pytest.approx(100 * raw, abs=0.05)
    assert float(with_it.split()[0]) > 100 * raw


@pytest.fixture
def said(tmp_path: Path) -> Path:
    """Two voices that say three things each, one of them too short, one longer than is heard."""
    sessions = []
    for speaker, pitch in (("ann", 110), ("ben", 190)):
        for index, seconds in enumerate((0.5, 1.2, 5.0)):
            time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
            path = tmp_path / f"{speaker}{index}.wav"
            soundfile.write(path, 0.1 * np.sin(2 * np.pi * pitch * time), SAMPLE_RATE)
            sessions.append(Session(path.stem, path, duration=seconds, speaker=speaker))
    write_manifest(tmp_path / "said.jsonl", sessions)
    return tmp_path / "said.jsonl"


def test_a_model_is_told_of_in_a_table(
    voices: ModuleType,
    said: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    torch.manual_seed(0)
    diarizer = Diarizer(load_config(DiarizerConfig, overrides=TINY)).eval()
    save_checkpoint(diarizer, tmp_path / "model")
    arguments = ["voices.py", str(tmp_path / "model"), str(said), "--shortest"]
    monkeypatch.setattr(sys, "argv", [*arguments, "1"])
    assert voices.main() == 0
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith(f"{tmp_path / 'model'}: 4 utterances of 2 speakers, ")
    assert told[-1].startswith("| all | 2 | 4 | ")
    # Each voice is the mean of its frames, whatever it was batched with.
    heard = voices.clips(said, 1.0)
    together = voices.embed(diarizer, heard)
    for utterance, voice in zip(heard, together, strict=True):
        samples, _ = soundfile.read(utterance.audio, dtype="float32", frames=4 * SAMPLE_RATE)
        with torch.no_grad():
            frames = diarizer.embed(torch.from_numpy(samples)[None], torch.tensor([len(samples)]))
        np.testing.assert_allclose(voice, frames[0][0].mean(dim=0), atol=1e-4)

    monkeypatch.setattr(sys, "argv", [*arguments, "2"])
    assert voices.main() == 1
    expected = "voices.py: 0 pairs of utterances are of one speaker and 1 of two, but an error rate"
    assert expected in capsys.readouterr().err
    nameless = [Session(s.session_id, s.audio, duration=s.duration) for s in read_manifest(said)]
    write_manifest(said, nameless)
    assert voices.main() == 1
    assert "said.jsonl:1: names no speaker, but voices are told" in capsys.readouterr().err


def test_few_utterances_of_a_speaker_are_heard(voices: ModuleType, tmp_path: Path) -> None:
    utterances = [
        Session(f"{n}", tmp_path / "u.wav", float(n), 2.5, speaker="ann") for n in range(100)
    ]
    write_manifest(tmp_path / "m.jsonl", utterances)
    offsets = [utterance.offset for utterance in voices.clips(tmp_path / "m.jsonl", 2.0)]
    assert offsets == [0.0, 11.0, 22.0, 33.0, 44.0, 55.0, 66.0, 77.0, 88.0, 99.0]


def test_the_shell_can_read_the_comparison() -> None:
    subprocess.run(["bash", "-n", RECIPE / "pretraining.sh"], check=True)


STUB = """#!/usr/bin/env bash
all="$*" out=${all##*--output } out=${out%% *}
case $(basename "$0") in
  python)
    case $1 in
      recipes/mini/prepare.py) mkdir -p "$3"; touch "$3/rir_train.jsonl" ;;
      */voices.py) printf '| all | 2 | 9 | 8.0 [7, 9] | 6.0 [5, 7] |\\n| of one | 1 |' ;;
      *) exec REAL "$@" ;;
    esac
    exit ;;
esac
echo "$out" >> CALLS
if [ "$(basename "$out")" = "$FAILS" ]; then exit 1; fi
mkdir -p "$out"
touch "$out/manifest.jsonl"
printf 'data: {batch_size: 24, simulation: {duration: 10.0}}' > "$out/config.yaml"
printf 'step,train_loss,val_der\\n1,2,\\n2,2,23.45\\n' > "$out/metrics.csv"
echo "step 24/24: loss 1; 400 x real time, data wait 1%" >&2
"""
"""In place of what takes minutes: leaves what the script looks for."""


def test_the_comparison_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools, calls, out = tmp_path / "bin", tmp_path / "calls", tmp_path / "out"
    tools.mkdir()
    for name in ("diarize", "python"):
        stub = STUB.replace("REAL", sys.executable).replace("CALLS", str(calls))
        (tools / name).write_text(stub)
        (tools / name).chmod(0o755)
    recipe = tmp_path / "recipes" / "default_model"  # where no environment comes before the stubs
    recipe.mkdir(parents=True)
    script = recipe / "pretraining.sh"
    script.write_text((RECIPE / "pretraining.sh").read_text())
    words = ["bash", script, "--minutes", "2", "--arms", "scratch,both", "--corpus", tmp_path]
    words += ["--output", out]

    def run(fails: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "FAILS": fails}
        return subprocess.run(words, env=environment, capture_output=True, text=True)

    assert run(fails="short").returncode == 1
    first = calls.read_text().splitlines()
    assert [Path(line).relative_to(out).as_posix() for line in first] == [
        "data/dev", "pace/voices.run", "pace/masked.run", "pace/easy.run", "pace/short.run",
        "scratch/easy", "scratch/short",
    ]  # fmt: skip
    done = run(fails="")
    assert done.returncode == 0, done.stderr
    then = calls.read_text().splitlines()[len(first) :]
    assert [Path(line).relative_to(out).as_posix() for line in then] == [
        "scratch/easy", "scratch/short", "both/first", "both/before", "both/easy", "both/short",
    ]  # fmt: skip
    # 240 s of audio a step at 400 times real time is 0.6 s: 100 steps in one of two minutes.
    rows = [line for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    assert [[cell.strip() for cell in row.strip("|").split("|")] for row in rows] == [
        ["scratch", "0", "-", "-", "100 + 100", "23.4"],
        ["both", "100 + 100", "8.0 [7, 9]", "6.0 [5, 7]", "100 + 100", "23.4"],
    ]
    assert (out / "table.md").read_text() == done.stdout
