"""What the benchmarks measure is what they say."""

import json
import math
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scripts import load_script

from diarize.checkpoint import load_checkpoint
from diarize.formats.posteriors import read_posteriors
from diarize.latency import parse_latency
from diarize.manifest import check_manifest, read_manifest, reference_turns
from diarize.postprocess import PostprocessConfig, to_turns
from diarize.score import score, score_sessions
from diarize.turns import merge

BENCH = Path(__file__).parents[1] / "recipes" / "bench"
report, process, bench, published, peers, curves = (
    load_script(BENCH / f"{name}.py")
    for name in ("report", "process", "bench", "published", "peers", "curves")
)


def test_time_and_memory_of_a_command_are_its_own() -> None:
    ballast = np.ones(2**25)  # 256 MiB in this process
    light = process.run([sys.executable, "-c", "pass"])
    heavy = process.run([sys.executable, "-c", "x = bytearray(2**27); import time; time.sleep(1)"])
    assert light["peak"] < ballast.nbytes / 2**22 < 128 < heavy["peak"] < ballast.nbytes / 2**20
    assert heavy["seconds"] > 1
    with pytest.raises(SystemExit, match="failed; run it by hand"):
        process.run([sys.executable, "-c", "raise SystemExit(3)"])


def test_a_command_tells_what_it_measured_on_its_last_line() -> None:
    told = process.ask([sys.executable, "-c", "print('warm'); print('{\"seconds\": 2.5}')"])
    assert told == {"seconds": 2.5}
    with pytest.raises(SystemExit, match="(?s)failed:.*no such model"):
        process.ask([sys.executable, "-c", "raise SystemExit('no such model')"])


def test_rows_are_printed_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "exp" / "bench.json"
    table = report.Report("speed", {"model": "", "seconds": ".2f", "ratio": ".1f"}, file)
    table.add({"model": "v1", "seconds": 1.234, "audio": 60})
    report.Report("other", {"model": ""}, file).add({"model": "v2"})
    table.add({"model": "v2", "seconds": 2.0, "ratio": 3.14})
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == ["| model | seconds | ratio |", "|---|---|---|", "| v1 | 1.23 |  |"]
    assert said[-1] == "| v2 | 2.00 | 3.1 |"
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert kept.keys() == {"speed", "other"}
    assert kept["speed"]["rows"][0] == {"model": "v1", "seconds": 1.234, "audio": 60}
    assert {"commit", "machine", "packages", "processor", "load_before"} <= kept["other"].keys()


def test_both_are_measured_in_turns() -> None:
    order = []

    def measure(whose: str, *seconds: float) -> dict[str, float]:
        order.append(whose)
        number = order.count(whose) - 1
        return {"seconds": seconds[number], "peak": 100.0 - number}

    ours, theirs = report.in_turns(lambda: measure("A", 1, 3), lambda: measure("B", 4, 8))
    assert order == ["A", "B", "A", "B"]
    assert ours == {"seconds": 2, "peak": 100}
    assert theirs["seconds"] == 6


def test_cells_say_what_is_measured() -> None:
    assert published.Cell.parse("v1/60x4") == ("v1", "60", 4)
    assert published.Cell.parse("v1/60x4").audio == 240
    for name in published.MEASURES:
        cell = published.Cell.parse(name)
        if cell.model == "v1":
            continue
        config = parse_latency(cell.latency)
        assert config is not None
        assert cell.audio == pytest.approx(cell.batch * config.chunk * 0.08)
        # Several streams are heard before their caches are full, one after.
        frames = cell.length / 0.08
        full = config.fifo + config.cache + config.right
        assert frames > full or cell.batch > 1


def test_batches_and_streams_are_measured_as_they_are_heard() -> None:
    small = [load_checkpoint(published.GOLDEN / f"sortformer_{name}.nemo") for name in ("v1", "v2")]
    waveform = np.random.default_rng(0).normal(0.0, 0.1, 3 * published.RATE).astype(np.float32)
    for batch in (1, 4):
        cell = published.Cell("v1", "3", batch)
        assert len(published.at_once(small[0], cell, waveform)) == 2  # twice, being quick
    steps = published.stepwise(small[1], published.Cell("v2", "1.04s", 2), waveform)
    assert len(steps) == 5  # of 0.48 s; the context of the sixth has not come
    assert published.settled([9.0, 9.0, 9.0, 9.0, 3.0, 1.0, 99.0]) == 2.0


def test_rows_beside_peers_say_whether_they_meet_what_is_wanted() -> None:
    assert set(published.MEASURES) <= set(peers.ROWS)
    assert set(published.QUICK) | set(peers.HEAVY) <= set(peers.ROWS)
    ours, theirs = {"seconds": 50.0, "peak": 1000.0}, {"seconds": 400.0, "peak": 5000.0}
    row = peers.row("v1/600", ours, theirs)
    assert (row["ratio"], row["lighter"], row["wanted"]) == (8.0, 5.0, "8, memory 6")
    assert row["met"] == "NO"
    assert peers.row("v1/600", ours, {"seconds": 400.0, "peak": 6000.0})["met"] == "yes"
    assert "met" not in peers.row("v1/3600", ours, None)
    assert peers.row("packages", {"seconds": 22}, {"seconds": 145})["met"] == "yes"


def test_what_is_reached_is_of_what_the_machine_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = load_script(BENCH / "count.py").Counted(200_000_000_000, 0, 10_000_000_000, 0)
    monkeypatch.setattr(peers, "work", lambda name: counted)
    limits = {"GFLOP/s": 100.0, "GB/s": 20.0}
    row = peers.reached("v1/60", {"seconds": 4.0}, limits)
    assert row["of matrix rate"] == pytest.approx(0.5)  # 2 s of multiplying in 4
    assert row["of bandwidth"] == pytest.approx(0.125)
    assert peers.reached("start", {"seconds": 4.0}, limits) == {}


def test_curves_are_fitted_and_drawn(tmp_path: Path) -> None:
    assert curves.exponent([1, 10, 100], [3, 300, 30000]) == pytest.approx(2.0)
    points = []
    for kind, numbers in curves.KINDS.items():
        for number in numbers:
            seconds = 0.1 * number if kind == "length" else math.sqrt(number)
            point = {"kind": kind, "number": number, "seconds": seconds, "peak MiB": 1000.0}
            points.append({**point, "x real time": 60 * number / seconds})
    found = {(row["kind"], row["exponent of"]): row["exponent"] for row in curves.fitted(points)}
    assert found == pytest.approx(
        {
            ("length", "time"): 1.0,
            ("length", "memory"): 0.0,
            ("batch", "memory"): 0.0,
            ("streams", "time"): 0.5,
            ("streams", "memory"): 0.0,
        }
    )
    pytest.importorskip("matplotlib")
    curves.draw(tmp_path / "curves.png", points)
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_noises_and_rooms_can_be_simulated_with(tmp_path: Path) -> None:
    for write, channels in ((bench.write_noises, 1), (bench.write_rooms, 4)):
        manifest = write(tmp_path)
        assert check_manifest(manifest) == []
        made = [soundfile.info(path) for path in tmp_path.glob("*.wav")]
        assert sum(info.channels == channels for info in made) == 5


def test_sessions_to_score_are_ten_minutes_of_a_hundred_turns(root: Path) -> None:
    drawn = runpy.run_path(str(root / "recipes" / "bench" / "scoring.py"))["drawn"]
    references, hypotheses = drawn(3)
    assert references.keys() == hypotheses.keys()
    for name, reference in references.items():
        assert len(reference) == len(merge(reference)) == 100 > len(hypotheses[name]) > 80
        assert 500 < max(turn.end for turn in reference) <= 600
    assert 0.05 < score_sessions(references, hypotheses).total.der < 0.3


def test_sessions_to_tune_on_are_those_of_a_model(root: Path, tmp_path: Path) -> None:
    script = runpy.run_path(str(root / "recipes" / "bench" / "tuning.py"))
    manifest = script["make_up"](tmp_path, 2)
    for session in read_manifest(manifest):
        reference = reference_turns(session)
        found = read_posteriors(tmp_path / f"{session.session_id}.npz")
        turns = to_turns(found.posterior, found.frame_shift, PostprocessConfig())
        assert len({turn.speaker for turn in reference}) == 4
        assert 0.1 < score(reference, turns).der < 0.4
