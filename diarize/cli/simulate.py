"""``diarize simulate``: conversations mixed from single-speaker utterances, on disk."""

import argparse
from pathlib import Path


def add_simulate(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "simulate",
        help="mix conversations from single-speaker utterances",
        description="Mix conversations from single-speaker utterances and write them with RTTM "
        "and a manifest. The same seed gives the same sessions that training mixes on the fly.",
    )
    parser.add_argument("utterances", metavar="UTTERANCES", type=Path, help="manifest with labels")
    parser.add_argument(
        "--config", metavar="YAML|key=value", action="append", default=[],
        help="how they go and sound; again for more, later ones win",
    )  # fmt: skip
    parser.add_argument("--num-sessions", metavar="N", type=_number, required=True)
    parser.add_argument("--seed", metavar="S", type=int, default=0)
    parser.add_argument("--output", metavar="DIR", type=Path, required=True)
    parser.add_argument("--noise", metavar="MANIFEST", type=Path, help="background noises")
    parser.add_argument("--rir", metavar="MANIFEST", type=Path, help="room impulse responses")
    parser.set_defaults(run=run_simulate)
    return parser


def run_simulate(args: argparse.Namespace) -> int:
    """Write the sessions, and the path of their manifest on standard output."""
    from diarize.config import load_config
    from diarize.simulate import SimulationConfig, Simulator, write_sessions

    paths = [setting for setting in args.config if "=" not in setting]
    overrides = [setting for setting in args.config if "=" in setting]
    config = load_config(SimulationConfig, paths, overrides)
    simulator = Simulator.from_manifests(config, args.utterances, args.noise, args.rir, args.seed)
    print(write_sessions(simulator, args.num_sessions, args.output))
    return 0


def _number(text: str) -> int:
    """How many sessions, at least one."""
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is asked for, but at least 1 session is made")
    return number
