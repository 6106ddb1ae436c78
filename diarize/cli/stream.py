"""``diarize stream``: turns while the audio comes."""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, cast

from diarize.cli.infer import add_postprocess, asked_postprocess
from diarize.errors import AudioError, DiarizeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from diarize.turns import Turn

PIECE = 0.1
"""Seconds that are fed at a time."""

SLOW = 10.0
"""Seconds of audio after which a stream that is slower than real time is told of."""


def add_stream(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "stream",
        help="say who speaks while the audio comes",
        description="Say who speaks while the audio comes: each turn is printed once, as a line of "
        "RTTM, when nothing to come can change it. Needs a streaming model.",
    )
    parser.add_argument(
        "audio", metavar="AUDIO", help="a recording, or - for raw samples on standard input: "
        "16 kHz, one channel, 16 bits, little endian (ffmpeg ... -f s16le -ar 16000 -ac 1 -)",
    )  # fmt: skip
    parser.add_argument("--model", metavar="NAME|PATH", required=True, help="a streaming model")
    parser.add_argument("--session-id", metavar="ID", help="default: its name, or 'stream'")
    parser.add_argument(
        "--latency", metavar="NAME", help="as in infer; default: what the model recommends"
    )
    parser.add_argument(
        "--output", metavar="FILE", type=Path, help="at the end, also write RTTM sorted by start"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    add_postprocess(parser)
    parser.set_defaults(run=run_stream)
    return parser


def run_stream(args: argparse.Namespace) -> int:
    """Feed the stream piece by piece, and print what is decided."""
    from diarize.formats.rttm import check_name, format_rttm, write_rttm
    from diarize.inference import InferenceConfig, choose_device
    from diarize.liveturns import LiveTurns
    from diarize.memory import keep_freed_memory
    from diarize.model import Diarizer
    from diarize.streaming import StreamingDiarizer
    from diarize.turns import in_order

    name = args.session_id or ("stream" if args.audio == "-" else Path(args.audio).stem)
    try:
        check_name("session id", name)
    except DiarizeError as error:
        raise AudioError(f"{args.audio}: {error} Use --session-id.") from None
    keep_freed_memory()
    diarizer = Diarizer.from_pretrained(args.model).to(choose_device(args.device))
    config = InferenceConfig.of(diarizer)
    config = replace(config, postprocess=asked_postprocess(args, config.postprocess))
    stream = StreamingDiarizer(diarizer, args.latency or config.latency)
    live = LiveTurns(diarizer.num_slots, diarizer.grid.frame_shift, config.postprocess)
    print(f"diarize stream: waits up to {stream.wait:.2f} s for its answers", file=sys.stderr)
    told: list[Turn] = []

    def tell(turns: "list[Turn]") -> None:
        told.extend(turns)
        for turn in turns:
            print(format_rttm(name, [turn]), end="", flush=True)

    try:
        busy, warned = 0.0, False
        for samples in _pieces(args.audio):
            began = time.monotonic()
            tell(live.push(stream.feed(samples)))
            busy += time.monotonic() - began
            if not warned and stream.duration > SLOW and busy > stream.duration:
                warned = True
                print(
                    f"diarize stream: {stream.duration:.0f} s of audio took {busy:.0f} s, slower "
                    "than real time: answers would come later and later. Choose a longer "
                    "--latency.",
                    file=sys.stderr,
                )
        tell(live.push(stream.finish()))
        tell(live.finish(stream.duration))
    except KeyboardInterrupt:  # how live audio ends: what has been heard is told
        tell(live.finish())
        raise
    finally:
        if args.output is not None:
            write_rttm(args.output, {name: in_order(told)})
    return 0


def _pieces(audio: str) -> "Iterator[NDArray[np.float32]]":
    """Samples at 16 kHz, -1 to 1, as they come."""
    import numpy as np

    from diarize.audio import SAMPLE_RATE, audio_info, read_audio

    count = round(PIECE * SAMPLE_RATE)
    if audio != "-":
        num_samples = audio_info(audio).num_samples_at(SAMPLE_RATE)
        minute = 60 * SAMPLE_RATE
        for first in range(0, num_samples, minute):
            length = min(minute, num_samples - first)
            samples = read_audio(audio, first / SAMPLE_RATE, length / SAMPLE_RATE)
            yield from np.split(samples, range(count, len(samples), count))
        return
    rest = b""
    incoming = cast(BufferedReader, sys.stdin.buffer)
    while piece := incoming.read1(2 * count):
        piece = rest + piece
        whole = len(piece) // 2 * 2
        rest = piece[whole:]
        yield np.frombuffer(piece[:whole], dtype="<i2").astype(np.float32) / np.float32(32768)
    if rest:
        raise AudioError("-: ends within a sample, but samples have 2 bytes. Is it 16-bit PCM?")
