"""``diarize tune``: post-processing fitted to sessions with references."""

import argparse
import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from diarize.cli.infer import add_judging, need_folder
from diarize.cli.labelled import add_labelled, labelled_sessions
from diarize.cli.score import CONDITIONS
from diarize.errors import ConfigError

if TYPE_CHECKING:
    from diarize.tune import Labelled, Tuning


def add_tune(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "tune",
        help="fit thresholds, padding and shortest durations to references",
        description="Find the post-processing of least DER on sessions with references, and say by "
        "cross-validation what may be hoped of it on others. Tune on development sessions, never "
        "on those that you report. Ctrl-C keeps the best so far.",
    )
    add_labelled(parser)
    parser.add_argument(
        "-o", "--output", metavar="FILE", type=Path,
        help="the setting as YAML, for --postprocess, with what it was tuned on; must not exist",
    )  # fmt: skip
    parser.add_argument(
        "--condition", choices=CONDITIONS, default="full",
        help="what is scored, as in score; default: full",
    )  # fmt: skip
    parser.add_argument(
        "--folds", metavar="K", type=int, default=10,
        help="parts that sessions are dealt out to for cross-validation; default 10, or as many as "
        "there are sessions; 0 for none",
    )  # fmt: skip
    parser.add_argument(
        "--draws", metavar="N", type=int, default=500,
        help="settings drawn before the best are refined; default 500",
    )  # fmt: skip
    parser.add_argument("--seed", metavar="S", type=int, default=0)
    parser.add_argument(
        "--format", choices=("text", "json"), default="text",
        help="of the report on standard output; json has the sessions as well; default: text",
    )  # fmt: skip
    add_judging(parser)
    parser.set_defaults(run=run_tune, refuse=parser.error)
    return parser


def run_tune(args: argparse.Namespace) -> int:
    """Judge what is not judged yet, search, and print what was found; 130 if interrupted."""
    if args.folds < 0 or args.draws < 1:
        args.refuse("--folds is at least 0, and --draws at least 1")
    if args.output is not None and args.output.exists():
        raise ConfigError(
            f"{args.output}: is there already, but a tuned setting is not written over another. "
            "Choose another --output, or remove the file."
        )
    if args.output is not None:
        need_folder(args.output.parent)
    from diarize.files import write_text
    from diarize.score import CONDITIONS as KNOWN
    from diarize.tune import tune

    condition = KNOWN[args.condition]
    labelled, before = labelled_sessions(args)
    facts = _passport(args, labelled)

    def keep(tuning: "Tuning") -> None:
        if args.output is not None:
            write_text(args.output, tuning.to_yaml(facts))

    tuning = tune(labelled, condition, before, args.folds, args.draws, args.seed, keep)
    keep(tuning)
    sys.stdout.write(tuning.to_json() if args.format == "json" else tuning.to_text())
    _warn(tuning, labelled)
    return 130 if tuning.interrupted else 0


def _passport(args: argparse.Namespace, labelled: "Sequence[Labelled]") -> list[str]:
    """What a setting was tuned on, with and by."""
    from diarize.environment import environment
    from diarize.formats.rttm import Columns
    from diarize.score.passport import digest

    facts = environment()
    commit = facts["commit"][:7] or "unknown"
    commit += " and changes" if facts["changed_files"] else ""
    references = digest({s.session_id: Columns.of(s.reference) for s in labelled})
    making = labelled[0].posteriors.made_by
    model, weights = (making.get(key, "unknown") for key in ("model", "weights_sha256"))
    return [
        f"Post-processing tuned by diarize for {model} (weights {weights[:12]}).",
        f"sessions: {', '.join(args.manifest)}; references {references[:12]}",
        f"diarize {facts['packages']['diarize']}, commit {commit}",
        f"command: diarize {shlex.join(facts['command'][1:])}",
    ]


def _warn(tuning: "Tuning", labelled: "Sequence[Labelled]") -> None:
    """Tell of sessions whose windows other thresholds would join in another way."""
    from diarize.stitching import counts_as_speech

    speech = counts_as_speech(tuning.tuned.onset, tuning.tuned.offset)
    joined = 0
    for session in labelled:
        making = session.posteriors.made_by
        window = making.get("inference", {}).get("window", math.inf)
        in_windows = session.posteriors.duration > window and making.get("speech") is not None
        joined += in_windows and making["speech"] != speech
    if joined:
        print(
            f"diarize tune: {joined} of {len(labelled)} sessions were judged in several windows, "
            f"and these are joined by what lies above {speech:g} with the tuned setting, but were "
            "not here. That may change who is who: infer with it, and score, to see.",
            file=sys.stderr,
        )
