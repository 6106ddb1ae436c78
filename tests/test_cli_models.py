"""`diarize models`: what has a name, what it is, and whether it is here."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from standin import Repository, StandIn

from diarize.checkpoint import load_checkpoint, packaged_models
from diarize.cli import main
from diarize.hub import PUBLISHED
from diarize.latency import LATENCIES

V1 = "nvidia/diar_sortformer_4spk-v1"


def test_packaged_models_are_told_as_they_load(capsys: pytest.CaptureFixture) -> None:
    assert main(["models", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(rows) == [*packaged_models(), *PUBLISHED]
    for name in packaged_models():
        diarizer, row = load_checkpoint(name), rows[name]
        assert row["num_parameters"] == sum(p.numel() for p in diarizer.parameters())
        assert row["num_speakers"] == diarizer.num_slots
        assert row["frame_shift"] == diarizer.grid.frame_shift
        assert row["where"] == "packaged"
        streams = diarizer.front_end.mel.config.streams
        assert row["latencies"] == ["offline", *(LATENCIES if streams else [])]
        assert 2 * row["num_parameters"] < row["num_bytes"] < 16 * 2**20
        assert row["licence"] == "Apache-2.0"


def test_the_table_says_what_is_cached_and_asks_no_network(tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    commit = "0123456789abcdef0123456789abcdef01234567"
    with StandIn(tmp_path) as hub:
        hub.published[V1] = Repository({})
        store = tmp_path / "hub" / f"models--{V1.replace('/', '--')}"
        for path, content in [
            ("refs/main", commit),
            (f"snapshots/{commit}/diar_sortformer_4spk-v1.nemo", "a"),
        ]:
            (store / path).parent.mkdir(parents=True)
            (store / path).write_text(content)
        # No torch, whose import takes longer than everything else.
        code = "import sys; from diarize.cli import main; main(['models']); print(*sys.modules)"
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code],
            env=hub.environment,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr, hub.asked) == (0, "", [])
    heading, *lines, modules = done.stdout.splitlines()
    assert heading.split() == "model licence MB speakers frame s latencies where".split()
    assert len({line.rindex("  ") for line in (heading, *lines)}) == 1
    where = {line.split()[0]: line.rsplit("  ", 1)[1] for line in lines}
    assert where.pop("default") == "packaged" and where.pop(V1) == "cached"
    assert list(where.values()) == ["not fetched"] * 3
    (line,) = (line for line in lines if line.startswith(f"{V1} "))
    assert line.split() == [V1, "CC-BY-NC-4.0", "493", "4", "0.08", "offline", "cached"]
    assert "torch" not in modules.split()


def test_what_fetches_them_is_named_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr("diarize.cli.models.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert main(["models"]) == 0
    captured = capsys.readouterr()
    assert captured.out.count("not fetched") == len(PUBLISHED)
    assert captured.err == (
        "diarize models: what is not packaged is fetched by huggingface_hub, which is not "
        "installed. Install it with: pip install 'diarize[hub]'.\n"
    )
