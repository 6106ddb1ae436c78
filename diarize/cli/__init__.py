"""The ``diarize`` command: one verb per module, each importing what it needs when it runs.

Results go to standard output, everything else to standard error. Exit status: 0 done, 1 bad
data, 2 bad usage, 130 interrupted. Who stops reading what a verb prints has seen enough: 0.
"""

import argparse
import os
import select
import sys
import traceback
from collections.abc import Sequence
from typing import Any, TextIO

from diarize import __version__
from diarize.cli.average import add_average
from diarize.cli.calibrate import add_calibrate
from diarize.cli.check import add_check
from diarize.cli.convert import add_convert
from diarize.cli.export import add_export
from diarize.cli.infer import add_infer
from diarize.cli.manifest import add_manifest
from diarize.cli.manifest_from import add_from_database, add_from_kaldi, add_from_lhotse
from diarize.cli.manifest_to import add_to_kaldi, add_to_lhotse, add_to_shards
from diarize.cli.models import add_models
from diarize.cli.score import add_score
from diarize.cli.score_compare import add_score_compare
from diarize.cli.simulate import (
    add_simulate,
    add_simulate_fit,
    add_simulate_gap,
    add_simulate_rooms,
)
from diarize.cli.stream import add_stream
from diarize.cli.train import add_train
from diarize.cli.tune import add_tune
from diarize.cli.view import add_view
from diarize.errors import DiarizeError
from diarize.files import in_words


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; ``arguments`` default to the process's own. Returns exit status."""
    args = _parser().parse_args(arguments)
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except DiarizeError as error:
        return _complain(args, str(error))
    except BrokenPipeError:
        gone = [stream for stream in (sys.stdout, sys.stderr) if _has_no_reader(stream)]
        for stream in gone:  # nothing must be flushed to it at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if sys.stdout in gone and _only_prints(args):
            return 0  # whoever read our answer has seen enough
        return _complain(args, "stopped unfinished, for whoever read its output has gone.")
    except OSError as error:
        return _complain(args, in_words(error))
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        extra = EXTRAS.get(package)
        if extra is None and package != "torch":
            raise
        way_out = f"Install it with: pip install 'diarize[{extra}]'."
        if package == "torch":
            way_out = (
                "Install it, or give --model a folder of `diarize export`, which does without."
            )
        return _complain(args, f"{args.verb} needs {package}, but it is not installed. {way_out}")
    except KeyboardInterrupt:
        print(f"diarize {args.verb}: interrupted.", file=sys.stderr)
        return 130
    return status


EXTRAS = {
    "lhotse": "lhotse",
    "matplotlib": "picture",
    "onnx": "export",
    "onnxruntime": "onnx",
    "onnxscript": "export",
    "pyannote": "database",
    "pyroomacoustics": "rooms",
    "pytorch_lightning": "train",
    "sounddevice": "microphone",
    "tensorboard": "train",
    "torchmetrics": "train",
}
"""Packages that the base install does not bring, and the extra that does."""

VERBS = (
    add_manifest,
    add_from_kaldi,
    add_from_lhotse,
    add_from_database,
    add_to_kaldi,
    add_to_lhotse,
    add_to_shards,
    add_check,
    add_simulate,
    add_simulate_fit,
    add_simulate_gap,
    add_simulate_rooms,
    add_train,
    add_infer,
    add_stream,
    add_score,
    add_score_compare,
    add_tune,
    add_calibrate,
    add_view,
    add_models,
    add_convert,
    add_export,
    add_average,
)
"""In the order in which the help lists them."""


class _Parser(argparse.ArgumentParser):
    """Takes a verb of two words, such as ``simulate fit``, where there is one of that name."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        (verbs,) = (a.choices for a in self._actions if a.dest == "verb")
        if " ".join(words[:2]) in (verbs or ()):
            words[:2] = [" ".join(words[:2])]
        return super().parse_known_args(words, namespace)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="diarize", description="Who spoke when.")
    parser.add_argument("--version", action="version", version=f"diarize {__version__}")
    verbs = parser.add_subparsers(
        dest="verb", metavar="VERB", required=True, parser_class=argparse.ArgumentParser
    )
    for add in VERBS:
        add(verbs).add_argument(
            "--debug", action="store_true", help="show where in the code an error arose"
        )
    return parser


def _has_no_reader(stream: TextIO) -> bool:
    """Whether a stream is a pipe whose other end is closed."""
    poll = select.poll()
    poll.register(stream.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))


def _only_prints(args: argparse.Namespace) -> bool:
    """Whether the answer goes to standard output and to no file."""
    places = (vars(args).get(name) for name in ("output", "posteriors", "picture"))
    return all(place in (None, "-") for place in places)


def _complain(args: argparse.Namespace, message: str) -> int:
    if args.debug:
        traceback.print_exc()
    print(f"diarize {args.verb}: {message}", file=sys.stderr)
    return 1
