"""``diarize infer``: recordings to turns."""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from diarize.cli.formats import some_of
from diarize.cli.record import made_by, write_record
from diarize.errors import ConfigError, DiarizeError, ManifestError

if TYPE_CHECKING:
    from diarize.formats.posteriors import Posteriors
    from diarize.inference import Diarization, Failure, InferenceConfig, Network
    from diarize.manifest import Session
    from diarize.model import Diarizer
    from diarize.postprocess import PostprocessConfig

FORMATS = ("rttm", "json")


def add_infer(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "infer",
        help="say who spoke when in recordings of any length",
        description="Say who spoke when in recordings of any length. Without --output, the "
        "answer goes to standard output. A session that fails is reported at the end, exit 1; "
        "all others are done.",
    )
    parser.add_argument("audio", metavar="AUDIO", nargs="*", help="recordings")
    parser.add_argument("--manifest", metavar="FILE", type=Path, help="sessions, as JSON Lines")
    parser.add_argument("--session-id", metavar="ID", help="of a single AUDIO; default: its name")
    parser.add_argument(
        "--model",
        metavar="NAME|PATH",
        default="default",
        help="packaged, on Hugging Face (`diarize models`), a checkpoint, exp/name, or a folder "
        "of `diarize export`",
    )
    parser.add_argument(
        "--output", metavar="DIR", default="-",
        help="a file per session and format, and a record of the model and its settings",
    )  # fmt: skip
    parser.add_argument(
        "--format", metavar="|".join(FORMATS), type=some_of(FORMATS), default=("rttm",),
        help="what to write, several with commas; default: rttm. Of several sessions, standard "
        "output holds json as JSON Lines, a line for each",
    )  # fmt: skip
    parser.add_argument(
        "--posteriors", metavar="DIR", type=Path,
        help="also write SESSION.npz: posterior (frame, slot) float32; frame_shift, offset and "
        "duration in seconds; made_by, JSON",
    )  # fmt: skip
    parser.add_argument("--picture", metavar="DIR", type=Path, help="also draw SESSION.png")
    add_judging(parser)
    parser.set_defaults(run=run_infer, refuse=parser.error)
    return parser


def add_judging(parser: argparse.ArgumentParser) -> None:
    """Declare how recordings are judged; `asked_config` reads the flags."""
    parser.add_argument(
        "--channel", metavar="N", type=int,
        help="from 0; default: what the manifest names, else the mean of all",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    parser.add_argument(
        "--latency", metavar="NAME",
        help="of streaming models: offline, default, 30.4s, 10s, 1.04s, 0.64s, 0.32s, whichever "
        "the model has, or frames such as chunk=6,left=1,right=7,fifo=188,cache=188,update=144",
    )  # fmt: skip
    parser.add_argument("--window", metavar="S", type=float, help="seconds judged at once")
    parser.add_argument("--overlap", metavar="S", type=float, help="seconds that windows share")
    parser.add_argument("--batch-size", metavar="N", type=int, help="windows judged together")
    add_speakers(parser)
    add_postprocess(parser)


def add_speakers(parser: argparse.ArgumentParser) -> None:
    """Declare how many speakers there are."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--num-speakers", metavar="N", type=int, help="as many as are known to speak"
    )
    group.add_argument(
        "--max-speakers", metavar="N", type=int, help="who says least beyond so many is left out; "
        "in a stream, who comes last",
    )  # fmt: skip


def add_postprocess(parser: argparse.ArgumentParser) -> None:
    """Declare the flags that `asked_postprocess` reads."""
    group = parser.add_argument_group(
        "posteriors to turns", "default: what the model recommends; single flags win over a file"
    )
    group.add_argument(
        "--postprocess", metavar="NAME|PATH",
        help="a preset, such as dihard3 or callhome of Sortformer, or a YAML file",
    )  # fmt: skip
    group.add_argument("--onset", metavar="P", type=float, help="speech begins above this")
    group.add_argument("--offset", metavar="P", type=float, help="speech ends below this")
    group.add_argument("--pad-onset", metavar="S", type=float, help="seconds added before")
    group.add_argument("--pad-offset", metavar="S", type=float, help="seconds added after")
    group.add_argument("--min-duration-on", metavar="S", type=float, help="shortest speech kept")
    group.add_argument("--min-duration-off", metavar="S", type=float, help="shortest gap kept")


def run_infer(args: argparse.Namespace) -> int:
    """Diarize every session; failures last. Whatever ends it, what is done is handed over."""
    sessions = _sessions(args)
    _prepare(args)
    from diarize.files import in_words
    from diarize.inference import Failure, diarize_sessions
    from diarize.memory import keep_freed_memory

    keep_freed_memory()
    diarizer = load_network(args.model, args.device)
    config = asked_config(args, diarizer)
    kept = args.output != "-"
    told = kept or "json" in args.format or args.posteriors is not None
    making = made_by(args.model, diarizer, config) if told else {}
    facts = facts_of(config, making)
    by_id = {session.session_id: session for session in sessions}
    ready: dict[str, str] = {}
    failures: list[Failure] = []
    num_joined = 0
    written: dict[str, str] = {}
    try:
        for result in diarize_sessions(diarizer, sessions, config):
            if isinstance(result, Failure):
                failures.append(result)
                continue
            num_joined += result.num_windows > 1
            name = result.session_id
            ready[name] = ""
            try:
                texts = _texts(result, args.format, making)
                if kept:
                    written |= _write_texts(name, texts, Path(args.output))
                else:
                    ready[name] = _for_output(texts, len(sessions))
                _write_beside(result, by_id[name], args, facts)
            except DiarizeError as error:
                failures.append(Failure(name, str(error)))
            except OSError as error:
                failures.append(Failure(name, in_words(error)))
    finally:
        _tell(ready, failures, by_id)
        if written:
            write_record(Path(args.output), making, written)
    if num_joined:
        print(
            f"diarize infer: {num_joined} of {len(by_id)} sessions did not fit one window of "
            f"{config.window:g} s; they were judged in several, whose speakers were matched.",
            file=sys.stderr,
        )
    return 1 if failures else 0


def load_network(model: str, device: str) -> "Network":
    """A model on a device; of one that was exported, torch hears nothing."""
    from diarize.exported import ExportedDiarizer, is_exported

    if is_exported(model):
        return ExportedDiarizer(model, device)
    from diarize.inference import choose_device
    from diarize.model import Diarizer

    return Diarizer.from_pretrained(model).to(choose_device(device))


def _prepare(args: argparse.Namespace) -> None:
    """See that results can be written, before they cost anything."""
    for folder in (args.output, args.posteriors, args.picture):
        if folder not in (None, "-"):
            need_folder(folder)
    if args.picture is not None:
        from diarize.picture import need_matplotlib

        need_matplotlib()


def need_folder(folder: str | Path) -> None:
    """See that files can be written into a folder, which is made if need be."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be made a folder ({error.strerror}), but results go to one. "
            "Give another."
        ) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"{folder}: may not be written to, but results go there. Give another.")


def _tell(ready: dict[str, str], failures: "list[Failure]", by_id: "dict[str, Session]") -> None:
    """Results that stand in memory, in the order in which sessions were given; then failures."""
    sys.stdout.write("".join(ready[name] for name in by_id if name in ready))
    sys.stdout.flush()
    for failure in failures:
        print(f"diarize infer: {failure.reason}", file=sys.stderr)
    failed = {failure.session_id for failure in failures}
    done = len(ready.keys() - failed)
    if len(by_id) == 1 or done == len(by_id):
        return
    told = f"{done} of {len(by_id)} sessions are done, {len(failed)} failed."
    if done + len(failed) == len(by_id):
        told = f"{len(failed)} of {len(by_id)} sessions failed, the others are done."
    print(f"diarize infer: {told}", file=sys.stderr)


def _sessions(args: argparse.Namespace) -> "list[Session]":
    """What to diarize, its ids fit to name RTTM lines and files."""
    from diarize.manifest import Session, read_manifest

    if not args.audio and args.manifest is None:
        args.refuse("give AUDIO, or --manifest")
    for audio in args.audio:
        if Path(audio).suffix == ".jsonl":
            args.refuse(f"{audio} is a manifest, not AUDIO; give it with --manifest")
    if args.session_id is not None and len(args.audio) != 1:
        args.refuse("--session-id names a single AUDIO; name several in a manifest")
    if args.output == "-" and len(args.format) > 1:
        args.refuse("standard output holds one format; give --output DIR for several")
    sessions = [
        Session(args.session_id or Path(audio).stem, Path(audio), where=audio)
        for audio in args.audio
    ]
    if args.manifest is not None:
        sessions += read_manifest(args.manifest)
        if not sessions:
            raise ManifestError(
                f"{args.manifest}: has no sessions, but at least one is needed. "
                "Is it the right file?"
            )
    if args.channel is not None:
        sessions = [replace(session, channel=args.channel) for session in sessions]
    check_ids(sessions, files=args.output != "-" or bool(args.posteriors or args.picture))
    return sessions


def check_ids(sessions: "Sequence[Session]", files: bool) -> None:
    """See that results can be told apart, and files named, by session ids.

    Raises:
        ManifestError: for the first id that cannot.
    """
    from diarize.formats.rttm import check_name

    seen: dict[str, Session] = {}
    for session in sessions:
        name = session.session_id
        try:
            check_name("session id", name)
        except DiarizeError as error:
            raise ManifestError(
                f"{session.where}: {error} Use --session-id, or 'session_id' in a manifest."
            ) from None
        if "/" in name and files:
            raise ManifestError(
                f"{session.where}: session id {name!r} holds '/', but it must name a file. "
                f"Give another, for example {name.replace('/', '-')!r}."
            )
        if name in seen:
            raise ManifestError(
                f"{session.where}: session id {name!r} is that of {seen[name].where}, but results "
                "are told apart by it. Name them apart in a manifest, by 'session_id'."
            )
        seen[name] = session


def asked_config(args: argparse.Namespace, diarizer: "Network") -> "InferenceConfig":
    """What the model recommends, and over it what was asked for."""
    from diarize.exported import ExportedDiarizer
    from diarize.inference import InferenceConfig
    from diarize.latency import parse_latency

    config = InferenceConfig.of(diarizer)
    postprocess = asked_postprocess(args, config.postprocess, config.presets)
    asked = {name: getattr(args, name) for name in ("latency", "window", "overlap", "batch_size")}
    config = asked_speakers(args, replace(config, postprocess=postprocess, **_given(asked)))
    streaming = parse_latency(config.latency, config.latencies)
    windows = streaming is None
    if isinstance(diarizer, ExportedDiarizer):
        diarizer.refuse_latency(config.latency, streaming)
    elif not windows:
        from diarize.streaming import refuse_windowed

        refuse_windowed(cast("Diarizer", diarizer))
    if not windows and not (args.window is args.overlap is None):
        args.refuse(
            f"--window and --overlap are for what is judged in windows; latency {config.latency} "
            "of this model is not"
        )
    return config


def facts_of(config: "InferenceConfig", making: dict[str, Any]) -> dict[str, Any]:
    """What posteriors of all sessions depend on, and what was to be made of them."""
    from diarize.latency import parse_latency

    in_windows = parse_latency(config.latency, config.latencies) is None
    speech = config.speech if in_windows else None
    return making | {"speech": speech, "presets": config.presets}


def asked_speakers(args: argparse.Namespace, recommended: "InferenceConfig") -> "InferenceConfig":
    """How many speakers there are, over what is recommended."""
    asked = {name: getattr(args, name) for name in ("max_speakers", "num_speakers")}
    return replace(recommended, **_given(asked))


def asked_postprocess(
    args: argparse.Namespace, recommended: "PostprocessConfig", presets: Mapping[str, str]
) -> "PostprocessConfig":
    """A preset or a file over what is recommended, and single flags over that."""
    from diarize.postprocess import PostprocessConfig, load_postprocess

    config = recommended
    if args.postprocess:
        config = load_postprocess(presets.get(args.postprocess, args.postprocess))
    asked = {field.name: getattr(args, field.name, None) for field in fields(PostprocessConfig)}
    return replace(config, **_given(asked))


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _texts(
    result: "Diarization", formats: tuple[str, ...], making: dict[str, Any]
) -> dict[str, str]:
    """Format -> the text that a session has in it."""
    from diarize.formats.json import format_json
    from diarize.formats.rttm import format_rttm

    texts = {}
    if "rttm" in formats:
        texts["rttm"] = format_rttm(result.session_id, result.turns)
    if "json" in formats:
        duration = round(result.duration, 3)
        facts = {"duration": duration, "made_by": making}
        texts["json"] = format_json(result.session_id, result.turns, **facts)
    return texts


def _for_output(texts: dict[str, str], num_sessions: int) -> str:
    """What standard output holds of one session: each on a line, where JSON stands for several."""
    ((kind, text),) = texts.items()
    if kind == "json" and num_sessions > 1:
        return json.dumps(json.loads(text), ensure_ascii=False) + "\n"
    return text


def _write_texts(name: str, texts: dict[str, str], folder: Path) -> dict[str, str]:
    """Write each text of a session; returns the SHA-256 of the RTTM file by its name."""
    from hashlib import sha256

    from diarize.files import write_text

    for kind, text in texts.items():
        write_text(folder / f"{name}.{kind}", text)
    rttm = (text for kind, text in texts.items() if kind == "rttm")
    return {f"{name}.rttm": sha256(text.encode()).hexdigest() for text in rttm}


def _write_beside(
    result: "Diarization", session: "Session", args: argparse.Namespace, facts: dict[str, Any]
) -> None:
    """Write what else one session was asked to leave, each file whole or not at all."""
    name = result.session_id
    if args.posteriors is not None:
        keep_posteriors(args.posteriors, result, facts | {"channel": session.channel})
    if args.picture is not None:
        _draw(result, session, args.picture / f"{name}.png")


def keep_posteriors(folder: Path, result: "Diarization", facts: dict[str, Any]) -> "Posteriors":
    """Write the posteriors of a session, and hand them back."""
    from diarize.formats.posteriors import Posteriors, write_posteriors

    span = (result.frame_shift, result.offset, result.duration)
    posteriors = Posteriors(result.posterior, *span, facts)
    write_posteriors(folder / f"{result.session_id}.npz", posteriors)
    return posteriors


def _draw(result: "Diarization", session: "Session", path: Path) -> None:
    """Draw a session, reading its recording minute by minute."""
    import numpy as np

    from diarize.manifest import reference_turns
    from diarize.picture import draw, extremes
    from diarize.recording import open_recording
    from diarize.turns import Segment

    span = Segment(result.offset, result.offset + result.duration)
    minutes = max(round(result.duration / 60.0), 1)
    pieces = minutes if session.frame_shift is None else 1  # rows are few, whatever they last
    recording = open_recording(session.audio, session.frame_shift, session.channel)
    times = span.start + span.duration * np.arange(pieces + 1) / pieces
    places = [recording.sample_at(float(time)) for time in times]
    signal = np.concatenate(
        [
            extremes(recording.read(first, last - first), max(2400 // pieces, 8))
            for first, last in pairwise(places)
        ]
    )
    reference = reference_turns(session) if session.rttm is not None else None
    draw(path, span, signal, result.turns, reference, title=result.session_id)
