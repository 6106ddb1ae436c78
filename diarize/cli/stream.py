"""``diarize stream``: turns while the audio comes."""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from itertools import chain
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, cast

from diarize.cli.infer import (
    add_postprocess,
    add_speakers,
    asked_postprocess,
    asked_speakers,
    facts_of,
    load_network,
    need_folder,
)
from diarize.cli.record import made_by
from diarize.errors import AudioError, DiarizeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from diarize.capture import Pieces
    from diarize.inference import Network
    from diarize.model import Diarizer
    from diarize.postprocess import PostprocessConfig
    from diarize.turns import Turn

SLOW = 10.0
"""Seconds of audio after which a stream that is slower than real time is told of."""


def add_stream(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "stream",
        help="say who speaks while the audio comes",
        description="Say who speaks while the audio comes: each turn is printed once, as a line of "
        "RTTM, when nothing to come can change it. Needs a streaming model. Ctrl-C ends it.",
    )
    parser.add_argument(
        "audio", metavar="AUDIO", nargs="?", help="a recording, or - for raw samples on standard "
        "input: 16 kHz, one channel, 16 bits, little endian (ffmpeg ... -f s16le -ar 16000 -ac 1 "
        "-)",
    )  # fmt: skip
    parser.add_argument(
        "--microphone", metavar="DEVICE", nargs="?", const="",
        help="instead of AUDIO; DEVICE by name or number, default: the system's",
    )  # fmt: skip
    parser.add_argument("--model", metavar="NAME|PATH", required=True, help="a streaming model")
    parser.add_argument(
        "--session-id", metavar="ID", help="default: the recording's name, or 'stream'"
    )
    parser.add_argument("--channel", metavar="N", type=int, help="from 0; default: the mean of all")
    parser.add_argument(
        "--latency",
        metavar="NAME",
        help="as in infer; default: 1.04s, or that of an exported model",
    )
    parser.add_argument(
        "--output", metavar="FILE", type=Path, help="at the end, also write RTTM sorted by start"
    )
    parser.add_argument(
        "--posteriors", metavar="DIR", type=Path, help="also write SESSION.npz, as infer does"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    add_speakers(parser)
    add_postprocess(parser)
    parser.set_defaults(run=run_stream, refuse=parser.error)
    return parser


def run_stream(args: argparse.Namespace) -> int:
    """Feed the stream piece by piece, and print what is decided."""
    name, pieces = _source(args)
    if args.posteriors is not None:
        need_folder(args.posteriors)
    import numpy as np

    from diarize.formats.rttm import format_rttm, write_rttm
    from diarize.inference import InferenceConfig
    from diarize.memory import keep_freed_memory
    from diarize.turns import in_order

    keep_freed_memory()
    diarizer = load_network(args.model, args.device)
    config = asked_speakers(args, InferenceConfig.of(diarizer))
    postprocess = asked_postprocess(args, config.postprocess, config.presets)
    config = replace(config, postprocess=postprocess)
    most = config.num_speakers or config.max_speakers
    latency, stream = _begin(diarizer, args.latency, config.postprocess, most)
    print(f"diarize stream: waits up to {stream.wait:.2f} s for its answers", file=sys.stderr)
    told: list[Turn] = []
    first = next(pieces, None)  # what cannot be heard leaves no files

    def tell(posterior: "NDArray[np.float32]") -> None:
        if rows is not None:
            posterior.tofile(rows)
        told.extend(turns := stream.turns())
        for turn in turns:
            print(format_rttm(name, [turn]), end="", flush=True)
        if not np.isfinite(posterior).all():
            raise AudioError(
                f"{name}: the audio before {stream.duration:.2f} s makes the network answer NaN "
                "or infinity. Scale it down; if it is no louder than others, the model is damaged."
            )

    with ExitStack() as kept:
        rows = None
        if args.posteriors is not None:
            place = args.posteriors / f"{name}.npz"
            facts = facts_of(config, made_by(args.model, diarizer, config))
            facts |= {"channel": args.channel, "streamed": latency, "speech": None}
            rows = kept.enter_context(_posteriors(place, stream, diarizer, facts))
        if args.output is not None:
            kept.callback(lambda: write_rttm(args.output, {name: in_order(told)}))
        try:
            busy, warned = 0.0, False
            for samples in () if first is None else chain([first], pieces):
                began = time.monotonic()
                tell(stream.feed(samples))
                busy += time.monotonic() - began
                if not warned and stream.duration > SLOW and busy > stream.duration:
                    warned = True
                    print(
                        f"diarize stream: {stream.duration:.0f} s of audio took {busy:.0f} s, "
                        "slower than real time: answers would come later and later. Choose a "
                        "longer --latency.",
                        file=sys.stderr,
                    )
        finally:  # Ctrl-C is how live audio ends: what has been heard is told
            tell(stream.finish())
    return 0


def _begin(
    diarizer: "Network", latency: str | None, postprocess: "PostprocessConfig", most: int
) -> tuple[str, Any]:
    """A stream, and the name of its latency."""
    from diarize.exported import ExportedDiarizer
    from diarize.exported_stream import ExportedStream
    from diarize.latency import parse_latency

    if not isinstance(diarizer, ExportedDiarizer):
        from diarize.streaming import StreamingDiarizer

        latency = latency or "1.04s"
        model = cast("Diarizer", diarizer)
        return latency, StreamingDiarizer(model, latency, postprocess, most)
    latency = latency or str(diarizer.inference["latency"])
    stream = ExportedStream(diarizer, postprocess, most)
    known = diarizer.inference["latencies"]
    diarizer.refuse_latency(latency, parse_latency(latency, known))
    return latency, stream


def _source(args: argparse.Namespace) -> "tuple[str, Pieces]":
    """Session id and samples of what was asked for."""
    from diarize.capture import of_microphone, of_pipe, of_recording
    from diarize.formats.rttm import check_name

    if (args.audio is None) == (args.microphone is None):
        args.refuse("give AUDIO, - or --microphone, one of them")
    live = args.audio in (None, "-")
    if live and args.channel is not None:
        args.refuse("--channel picks one of a recording's; what comes live has one")
    name = args.session_id or ("stream" if live else Path(args.audio).stem)
    try:
        check_name("session id", name)
    except DiarizeError as error:
        raise AudioError(f"{args.audio or 'microphone'}: {error} Use --session-id.") from None
    if "/" in name and args.posteriors is not None:
        raise AudioError(
            f"{args.audio or 'microphone'}: session id {name!r} holds '/', but it must name a "
            f"file. Give another, for example {name.replace('/', '-')!r}."
        )
    if args.microphone is not None:
        return name, of_microphone(args.microphone or None)
    if live:
        return name, of_pipe(sys.stdin.buffer)
    return name, of_recording(args.audio, args.channel)


@contextmanager
def _posteriors(
    path: Path, stream: Any, diarizer: "Network", facts: dict[str, Any]
) -> Iterator[IO[bytes]]:
    """A file for rows of float32, in the end stored as ``path``; memory holds none of it."""
    import numpy as np

    from diarize.formats.posteriors import Posteriors, write_posteriors

    with TemporaryFile(dir=path.parent) as rows:
        try:
            yield rows
        finally:
            size = rows.seek(0, 2) // (4 * diarizer.num_slots)
            posterior = np.zeros((0, diarizer.num_slots), dtype=np.float32)
            if size:
                posterior = np.memmap(rows, np.float32, "r", shape=(size, diarizer.num_slots))
            span = (diarizer.grid.frame_shift, 0.0, stream.duration)
            write_posteriors(path, Posteriors(posterior, *span, facts))
