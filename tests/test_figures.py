"""What no machine changes, and what counts it: figures are those of the committed baseline."""

import json
from pathlib import Path

import pytest
import torch
from scripts import load_script
from torch import nn

from diarize.encoder.transformer import Transformer, TransformerConfig
from diarize.model import Diarizer, DiarizerConfig

BENCH = Path(__file__).parents[1] / "recipes" / "bench"
count = load_script(BENCH / "count.py")
figures = load_script(BENCH / "figures.py")
install = load_script(BENCH / "install.py")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", ["work", "imports", "packages", "shipped"])
def test_figures_are_those_of_the_baseline(part: str) -> None:
    found = {part: getattr(figures, part)()}
    baseline = json.loads(figures.BASELINE.read_text(encoding="utf-8"))
    changes = figures.differences(found, {part: baseline[part]})
    assert changes == [], "If this is meant: make baseline, and commit what it writes."


def test_differences_are_told_beyond_their_tolerance() -> None:
    def of(gflop: float, names: list[str], imports: list[str], code: float) -> dict:
        return {
            "work": {"v1/60": {"GFLOP": gflop}},
            "packages": names,
            "imports": {"diarize --help": imports},
            "shipped": {"code": code},
        }

    names = [f"package{n}" for n in range(22)]
    baseline = of(200.0, names, [], 1000)
    assert figures.differences(of(201.9, [*names, "a", "b"], [], 1190), baseline) == []
    assert figures.differences(of(190.0, [*names, "a", "b", "c"], ["torch"], 700), baseline) == [
        "work, v1/60, GFLOP: 190, but the baseline has 200 (-5.0%)",
        "packages: a, b, c came",
        "imports, diarize --help: torch came",
        "shipped, code: 700, but the baseline has 1000 (-30.0%)",
    ]
    assert figures.differences({"work": {"new": {}}}, {"work": {"old": {}}}) == [
        "work, old: gone",
        "work, new: new",
    ]


@pytest.mark.parametrize("editable", [False, True])
def test_size_of_a_package_is_that_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, editable: bool
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    code, about = tmp_path / "sized", tmp_path / "sized-1.0.dist-info"
    code.mkdir()
    about.mkdir()
    (code / "__init__.py").write_bytes(b"#" * 1000)
    (code / "left.pyc").write_bytes(b"#" * 10)
    (about / "METADATA").write_text("Name: sized\nVersion: 1.0\n")
    if editable:
        (about / "direct_url.json").write_text('{"url": "", "dir_info": {"editable": true}}')
    else:
        (about / "RECORD").write_text("sized/__init__.py,,\nsized/left.pyc,,\n")
    assert install.size("sized") == 1000
    assert install.closure([install.Requirement("sized; python_version > '3'")]) == {"sized"}


def test_a_linear_map_is_two_operations_for_each_weight_and_row() -> None:
    layer, rows = nn.Linear(3, 5), torch.zeros(7, 3)
    found = count.count(lambda: layer(rows))
    assert found.operations == 2 * 7 * 3 * 5
    assert found.bytes_held == 4 * 7 * 5
    assert found.bytes_moved == 4 * (7 * 3 + 3 * 5 + 5 + 7 * 5)


def test_what_is_held_is_the_most_at_one_time() -> None:
    def work() -> None:
        first = torch.zeros(1000)
        second = first + 1  # both: 8000 bytes
        del first
        second.add_(1)  # in place, and nothing new
        second[:10]  # a view
        second * 2  # both again

    found = count.count(work)
    assert found.bytes_held == 8000
    assert found.tensors == 3


def test_attention_is_counted_as_by_hand() -> None:
    width, inner, frames = 8, 16, 10
    settings = TransformerConfig(width=width, inner=inner, num_layers=1, num_heads=2)
    encoder = Transformer(settings).eval()
    lengths = torch.tensor([frames])
    found = count.count(lambda: encoder(torch.zeros(1, frames, width), lengths))
    maps = 4 * width * width + 2 * width * inner  # queries, keys, values, output; both ways
    attention = 2 * frames * frames * width  # scores, and weighted values, of all heads
    assert found.operations == 2 * (frames * maps + attention)


@pytest.mark.parametrize("encoder", ["transformer.Transformer", "sortformer.SortFormer"])
def test_a_model_without_numbers_asks_for_what_it_does_with_them(encoder: str) -> None:
    front_end = {"_target_": "diarize.frontend.fastconformer.FastConformer"}
    front_end |= {"width": 16, "num_layers": 1, "num_heads": 2, "subsampling_channels": 8}
    front_end |= {"attention_context": 4, "mel": {"normalization": "none"}}  # type: ignore[dict-item]
    sizes = {"width": 16, "inner": 32, "num_layers": 2, "num_heads": 2}
    encoder_node = {"_target_": f"diarize.encoder.{encoder}", **sizes}
    diarizer = Diarizer(DiarizerConfig(front_end, encoder_node)).eval()
    waveform, lengths = torch.zeros(2, 32000), torch.tensor([32000, 32000])
    real = count.count(lambda: diarizer.posterior(waveform, lengths))
    shapes = count.Shapes(diarizer)
    assert shapes.at_once(2.0, 2).operations == real.operations
    short, long = (shapes.step(f"chunk=3,left=1,right=1,fifo={n},cache=20") for n in (0, 40))
    assert 0 < short.operations < long.operations
    both = shapes.step("chunk=3,left=1,right=1,fifo=40,cache=20", 2)
    offsets = 2 * 4 + 1  # of the context, of which both streams have the same
    assert both.operations == 2 * long.operations - 2 * offsets * 16 * 16
