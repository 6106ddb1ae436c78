"""``diarize train``: a model from YAML files."""

import argparse
from pathlib import Path


def add_train(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "train",
        help="train a model",
        description="Train a model. Later files and key=value settings win over earlier ones.",
    )
    parser.add_argument(
        "settings",
        metavar="CONFIG|MODEL|key=value",
        nargs="+",
        help="YAML files, a model as --model takes it, to be built like it, and single settings",
    )
    parser.add_argument(
        "--output", metavar="DIR", type=Path, required=True, help="experiment, such as exp/name"
    )
    parser.add_argument("--resume", action="store_true", help="go on where the experiment stopped")
    parser.set_defaults(run=run_train)
    return parser


def run_train(args: argparse.Namespace) -> int:
    """Train, and print the path of the best checkpoint."""
    from pytorch_lightning.utilities import rank_zero_only

    from diarize.training import train

    paths = [Path(setting) for setting in args.settings if "=" not in setting]
    overrides = [setting for setting in args.settings if "=" in setting]
    best = train(paths, overrides, args.output, args.resume)
    rank_zero_only(print)(best)
    return 0
