"""``diarize models``: what ``--model`` takes by name."""

import argparse
import json
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

SUBSAMPLING = 8
"""Steps of the mel filter bank in a frame, of every front end."""

LICENCE = "Apache-2.0"
"""Of packaged models that say nothing else: the package's own."""


def add_models(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "models",
        help="list the models that have a name: packaged and published ones",
        description="List the models that --model takes by name: those that come with this "
        "package, and those on Hugging Face that are known to run here, which are fetched when "
        "they are first asked for. Any other OWNER/NAME, or OWNER/NAME@REVISION, is tried as well.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run_models)
    return parser


def run_models(args: argparse.Namespace) -> int:
    """Print the table, or JSON; the network is not asked."""
    from diarize.hub import PUBLISHED, cached

    rows = _packaged()
    for model in PUBLISHED.values():
        rows.append(
            {
                "name": model.name,
                "licence": model.licence,
                "num_parameters": model.num_parameters,
                "num_bytes": model.num_bytes,
                "num_speakers": model.num_speakers,
                "frame_shift": model.frame_shift,
                "latencies": list(model.latencies),
                "where": "cached" if cached(model.name) else "not fetched",
            }
        )
    sys.stdout.write(json.dumps(rows, indent=2) + "\n" if args.json else _table(rows))
    if find_spec("huggingface_hub") is None:
        print(
            "diarize models: what is not packaged is fetched by huggingface_hub, which is not "
            "installed. Install it with: pip install 'diarize[hub]'.",
            file=sys.stderr,
        )
    return 0


def _packaged() -> list[dict[str, Any]]:
    """What the models in this package say of themselves."""
    from omegaconf import OmegaConf

    rows = []
    for path in sorted((Path(__file__).parents[1] / "weights").glob("*/config.yaml")):
        config: Any = OmegaConf.to_container(OmegaConf.load(path))
        diarizer, inference = config["diarizer"], config.get("inference") or {}
        mel, card = diarizer["front_end"]["mel"], config.get("card") or {}
        hop = mel["hop_samples"] * SUBSAMPLING // diarizer.get("upsampling", 1)
        causal = mel["normalization"] == "none" or mel.get("prior_seconds", 0) > 0
        streams = causal and mel["peak_scaling"] == "none"
        latencies = inference.get("latencies") or {} if streams else {}
        named = [name for name in latencies if name != "default"]
        rows.append(
            {
                "name": path.parent.name,
                "licence": card.get("licence", LICENCE),
                "num_parameters": card.get("parameters"),
                "num_bytes": path.with_name("model.safetensors").stat().st_size,
                "num_speakers": diarizer["num_slots"],
                "frame_shift": hop / mel["sample_rate"],
                "latencies": list(dict.fromkeys(["offline", *named])),
                "where": "packaged",
            }
        )
    return rows


def _table(rows: list[dict[str, Any]]) -> str:
    """A line for each model below a line of headings, in columns."""
    heading = ["model", "licence", "MB", "speakers", "frame s", "latencies", "where"]
    cells = [
        [
            row["name"],
            row["licence"],
            f"{row['num_bytes'] / 1e6:.0f}",
            str(row["num_speakers"]),
            f"{row['frame_shift']:.2f}",
            ", ".join(row["latencies"]),
            row["where"],
        ]
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(heading, *cells, strict=True)]
    numbers = ("MB", "speakers", "frame s")
    lines = []
    for line in (heading, *cells):
        columns = zip(heading, line, widths, strict=True)
        padded = [c.rjust(w) if name in numbers else c.ljust(w) for name, c, w in columns]
        lines.append("  ".join(padded).rstrip() + "\n")
    return "".join(lines)
