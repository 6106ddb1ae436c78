"""``diarize calibrate``: posteriors that mean what they say."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diarize.cli.convert import refuse_model
from diarize.cli.infer import add_judging, need_folder
from diarize.cli.labelled import add_labelled, labelled_sessions
from diarize.cli.record import digest_of
from diarize.errors import PosteriorError

if TYPE_CHECKING:
    from diarize.calibration import Calibration
    from diarize.checkpoint import Checkpoint
    from diarize.model import Diarizer
    from diarize.postprocess import PostprocessConfig
    from diarize.tune import Labelled


def add_calibrate(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "calibrate",
        help="make posteriors, and the confidence of turns, mean what they say",
        description="Hold posteriors against references: how often is true what is stated with "
        "80 %? Find the temperature of logits after which they agree best, and say by "
        "cross-validation what may be hoped of it on other sessions. With --output, write the "
        "model with its head rescaled by it, and its thresholds moved along, so that turns stay "
        "as they are. Calibrate on development sessions, never on those that you report.",
    )
    add_labelled(parser)
    parser.add_argument(
        "-o", "--output", metavar="DIR", type=Path,
        help="the rescaled model, with these thresholds; a folder that holds no model yet",
    )  # fmt: skip
    parser.add_argument(
        "--bias", action="store_true", help="fit a bias of logits as well as the temperature"
    )
    parser.add_argument(
        "--folds", metavar="K", type=int, default=10,
        help="parts that sessions are dealt out to for cross-validation; default 10, or as many as "
        "there are sessions; 0 for none",
    )  # fmt: skip
    parser.add_argument("--seed", metavar="S", type=int, default=0)
    parser.add_argument(
        "--format", choices=("text", "json"), default="text",
        help="of the report on standard output; default: text",
    )  # fmt: skip
    parser.add_argument(
        "--picture", metavar="FILE", type=Path,
        help="a reliability diagram, .png, .svg or .pdf",
    )  # fmt: skip
    add_judging(parser)
    parser.set_defaults(run=run_calibrate, refuse=parser.error)
    return parser


def run_calibrate(args: argparse.Namespace) -> int:
    """Judge what is not judged yet, fit, write what is asked for, and print what was found."""
    _prepare(args)
    from diarize.calibration import calibrate

    labelled, postprocess = labelled_sessions(args)
    model = None if args.output is None else _model_of(labelled)
    calibration = calibrate(labelled, postprocess, args.bias, args.folds, args.seed)
    if args.picture is not None:
        from diarize.calibration.diagram import draw

        draw(args.picture, calibration)
    if model is not None:
        _write(args, model, calibration, labelled, postprocess)
    sys.stdout.write(calibration.to_json() if args.format == "json" else calibration.to_text())
    return 0


def _prepare(args: argparse.Namespace) -> None:
    """See that results can be written, before they cost anything."""
    if args.folds < 0:
        args.refuse("--folds is at least 0")
    if args.output is not None:
        refuse_model(args.output)
        need_folder(args.output.parent)
    if args.picture is not None:
        from diarize.calibration.diagram import ENDINGS
        from diarize.picture import need_matplotlib

        if args.picture.suffix not in ENDINGS:
            args.refuse(f"--picture ends in {', '.join(ENDINGS)}, but it is {args.picture}")
        need_folder(args.picture.parent)
        need_matplotlib()


def _model_of(labelled: "Sequence[Labelled]") -> "tuple[Checkpoint, Diarizer]":
    """The model that made all posteriors, as it is stored, and built."""
    from diarize.checkpoint import build, read_checkpoint

    facts = labelled[0].posteriors.made_by
    name, weights = (facts.get(key) for key in ("model", "weights_sha256"))
    if name is None or weights is None:
        raise PosteriorError(
            f"session {labelled[0].session_id!r}: its posteriors do not say which model made them, "
            "but that is the one to rescale. Write them with `diarize infer --posteriors`."
        )
    checkpoint = read_checkpoint(name)
    diarizer = build(checkpoint)
    found = digest_of(diarizer)
    if found != weights:
        raise PosteriorError(
            f"session {labelled[0].session_id!r}: its posteriors were made by weights "
            f"{weights[:12]} of {name}, but these are {found[:12]} now. Remove the posteriors, or "
            "give another folder for --posteriors."
        )
    return checkpoint, diarizer


def _write(
    args: argparse.Namespace,
    model: "tuple[Checkpoint, Diarizer]",
    calibration: "Calibration",
    labelled: "Sequence[Labelled]",
    postprocess: "PostprocessConfig",
) -> None:
    """Write the rescaled model, and tell how it is measured."""
    from dataclasses import asdict

    from diarize.checkpoint import save_checkpoint

    checkpoint, diarizer = model
    rescaling = calibration.rescaling
    diarizer.head.rescale(rescaling.temperature, rescaling.bias)
    moved = asdict(rescaling.moved(postprocess))
    diarizer.postprocess = {name: round(value, 6) for name, value in moved.items()}
    card = checkpoint.card | {"calibration": _passport(args, calibration, labelled)}
    save_checkpoint(diarizer, args.output, card=card)
    in_parts = sum(not _at_once(session) for session in labelled)
    told = f"{args.output}: the model, rescaled."
    if in_parts:
        told += (
            f" {in_parts} of {len(labelled)} sessions were judged in several windows or as a "
            "stream, and of these the report says only nearly what it does."
        )
    command = ["diarize", "calibrate", *args.manifest, "--model", str(args.output)]
    print(f"diarize calibrate: {told} To measure it: {shlex.join(command)}", file=sys.stderr)
    if presets := diarizer.inference.get("presets"):
        print(
            f"diarize calibrate: presets of the model ({', '.join(presets)}) are thresholds for "
            "posteriors as they were.",
            file=sys.stderr,
        )


def _at_once(session: "Labelled") -> bool:
    """Whether a session was judged in one window."""
    making = session.posteriors.made_by
    window = making.get("inference", {}).get("window", 0.0)
    return making.get("speech") is not None and session.posteriors.duration <= window


def _passport(
    args: argparse.Namespace, calibration: "Calibration", labelled: "Sequence[Labelled]"
) -> dict[str, Any]:
    """What the model was calibrated on, with what result."""
    from dataclasses import asdict

    from diarize.environment import environment
    from diarize.formats.rttm import Columns
    from diarize.score.passport import digest

    making = labelled[0].posteriors.made_by
    facts = environment()
    return {
        **asdict(calibration.rescaling),
        "model": making["model"],
        "weights_sha256": making["weights_sha256"],
        "num_sessions": len(labelled),
        "references": digest({s.session_id: Columns.of(s.reference) for s in labelled}),
        "gain": None if calibration.gain is None else list(calibration.gain),
        "verdict": calibration.verdict,
        "commit": facts["commit"],
        "command": shlex.join(["diarize", *facts["command"][1:]]),
    }
