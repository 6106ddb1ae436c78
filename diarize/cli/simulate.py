"""``diarize simulate``: conversations mixed from single-speaker utterances, as people talk."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from diarize.cli.references import read_turns
from diarize.turns import Turn

if TYPE_CHECKING:
    from diarize.turntaking import Observed


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
    from diarize.memory import keep_freed_memory
    from diarize.simulate import SimulationConfig, Simulator, write_sessions

    keep_freed_memory()
    config = load_config(SimulationConfig, *_settings(args.config))
    simulator = Simulator.from_manifests(config, args.utterances, args.noise, args.rir, args.seed)
    print(write_sessions(simulator, args.num_sessions, args.output))
    return 0


def _number(text: str) -> int:
    """How many, at least one."""
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is asked for, but at least 1 is made")
    return number


def add_simulate_fit(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "simulate fit",
        help="measure how people take turns, for simulations that do as they do",
        description="Measure pauses, gaps, overlaps, backchannels and turns in references, and "
        "write them for `diarize simulate --config turn_taking=FILE`. REF is an RTTM file, a "
        "folder of them, or a manifest that names them.",
    )
    parser.add_argument("reference", metavar="REF", nargs="+", help="who spoke when")
    parser.add_argument("-o", "--output", metavar="FILE", type=Path, required=True, help="JSON")
    _add_join(parser)
    parser.set_defaults(run=run_simulate_fit)
    return parser


def run_simulate_fit(args: argparse.Namespace) -> int:
    """Write the fit, and its path on standard output."""
    from diarize.turntaking import fit, write_turn_taking

    write_turn_taking(args.output, fit(_observed(args.reference, args.join)))
    print(args.output)
    return 0


def add_simulate_gap(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "simulate gap",
        help="compare simulated turn-taking with real, and say what would bring it nearer",
        description="Compare simulated turn-taking with that of references, and recommend "
        "settings. REF and SIMULATED are RTTM files, folders of them, or manifests that name them.",
    )
    parser.add_argument("reference", metavar="REF", help="who spoke when")
    parser.add_argument("simulated", metavar="SIMULATED", help="who speaks when in simulation")
    parser.add_argument("--picture", metavar="FILE", type=Path, help="histograms: png, svg or pdf")
    parser.add_argument("--json", action="store_true", help="print JSON")
    _add_join(parser)
    parser.set_defaults(run=run_simulate_gap)
    return parser


def run_simulate_gap(args: argparse.Namespace) -> int:
    """Print the table, or JSON, and draw the histograms."""
    from diarize.gap import compare, draw_gap
    from diarize.picture import need_matplotlib

    if args.picture is not None:
        need_matplotlib()
    gap = compare(_observed([args.reference], args.join), _observed([args.simulated], args.join))
    if args.picture is not None:
        draw_gap(args.picture, gap)
    sys.stdout.write(gap.to_json() if args.json else gap.to_text())
    return 0


def add_simulate_rooms(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "simulate rooms",
        help="compute rooms to simulate sessions in",
        description="Compute impulse responses of box-shaped rooms by the image method, for "
        "`diarize simulate --rir`. A room is a FLAC file with a channel for each position.",
    )
    parser.add_argument(
        "--config", metavar="YAML|key=value", action="append", default=[],
        help="what they are like; again for more, later ones win",
    )  # fmt: skip
    parser.add_argument("--num-rooms", metavar="N", type=_number, required=True)
    parser.add_argument("--seed", metavar="S", type=int, default=0)
    parser.add_argument("--output", metavar="DIR", type=Path, required=True)
    parser.set_defaults(run=run_simulate_rooms)
    return parser


def run_simulate_rooms(args: argparse.Namespace) -> int:
    """Write the rooms, and the path of their manifest on standard output."""
    from diarize.config import load_config
    from diarize.rooms import RoomConfig, write_rooms

    config = load_config(RoomConfig, *_settings(args.config))
    print(write_rooms(config, args.num_rooms, args.output, args.seed))
    return 0


def _settings(given: list[str]) -> tuple[list[str], list[str]]:
    """YAML files, and single settings."""
    files = [setting for setting in given if "=" not in setting]
    return files, [setting for setting in given if "=" in setting]


def _add_join(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--join", metavar="S", type=float, default=0.2,
        help="a speaker's words with at most so many seconds between are one turn; default 0.2",
    )  # fmt: skip


def _observed(places: list[str], join: float) -> "Observed":
    """What is seen of turn-taking in the references of some places."""
    from diarize.turntaking import observe

    sessions: dict[str, list[Turn]] = {}
    for number, place in enumerate(places):  # two places may name their sessions alike
        sessions |= {f"{number} {name}": turns for name, turns in read_turns(place).items()}
    return observe(sessions, join)
