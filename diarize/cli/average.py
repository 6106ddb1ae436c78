"""``diarize average``: one model from several checkpoints of a run."""

import argparse
import sys
from pathlib import Path

from diarize.cli.convert import refuse_model


def add_average(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "average",
        help="average the weights of checkpoints",
        description="Write the mean of the weights of several checkpoints as a model. They are of "
        "one run, whose last steps wander about what they have learned: weights of runs that began "
        "apart have no mean that does anything.",
    )
    parser.add_argument(
        "models", metavar="CKPT", nargs="+", help="checkpoints, such as checkpoints/step-*.ckpt"
    )
    parser.add_argument(
        "--output", metavar="DIR", type=Path, required=True, help="a folder that holds no model yet"
    )
    parser.set_defaults(run=run_average)
    return parser


def run_average(args: argparse.Namespace) -> int:
    """Write the folder, and say on standard error what it holds."""
    refuse_model(args.output)
    from diarize.checkpoint import average, build, read_checkpoint, save_checkpoint

    mean = average([read_checkpoint(model) for model in args.models])
    save_checkpoint(build(mean), args.output, card=mean.card)
    print(f"diarize average: {args.output}: {len(args.models)} checkpoints.", file=sys.stderr)
    return 0
