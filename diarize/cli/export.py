"""``diarize export``: a model as a graph that needs no torch."""

import argparse
import sys
from pathlib import Path

from diarize.cli.convert import origin_of

FORMATS = ("onnx",)


def add_export(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "export",
        help="write a model as a graph for onnxruntime",
        description="Write any model that --model takes as a folder with model.onnx and "
        "config.yaml, which `diarize infer --model DIR` runs with onnxruntime, without torch. It "
        "judges windows of any length and number; with --latency, it is the step of a stream, "
        "what is remembered going in and coming out.",
    )
    parser.add_argument("model", metavar="MODEL", help="a name, a checkpoint, or exp/name")
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path, required=True, help="a folder to be made"
    )
    parser.add_argument("--format", choices=FORMATS, default="onnx", help="default: onnx")
    parser.add_argument(
        "--int8", action="store_true",
        help="weights of linear maps in 8 bits: a smaller file, and answers that differ",
    )  # fmt: skip
    parser.add_argument(
        "--latency", metavar="NAME",
        help="as in infer, for good; default: what the model recommends",
    )  # fmt: skip
    parser.set_defaults(run=run_export)
    return parser


def run_export(args: argparse.Namespace) -> int:
    """Write the folder, and say on standard error what it holds and how near it comes."""
    from diarize.exported import GRAPH, refuse_existing

    refuse_existing(args.output)
    from diarize.checkpoint import build, read_checkpoint
    from diarize.export import export, farthest

    checkpoint = read_checkpoint(args.model)
    diarizer = build(checkpoint)
    card = origin_of(args.model) | checkpoint.card
    export(diarizer, args.output, args.latency, args.int8, card)
    size = (args.output / GRAPH).stat().st_size / 1e6
    weights = "int8" if args.int8 else "float32"
    print(
        f"diarize export: {args.output}: {size:.1f} MB in {weights}; of noise, its posteriors are "
        f"within {farthest(diarizer, args.output):.1e} of the model's.",
        file=sys.stderr,
    )
    return 0
