"""Sessions with references, judged by a model: what ``tune`` and ``calibrate`` learn from."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diarize.cli.infer import (
    asked_config,
    asked_postprocess,
    check_ids,
    facts_of,
    keep_posteriors,
    load_network,
    need_folder,
)
from diarize.cli.record import made_by
from diarize.errors import AudioError, ManifestError, PosteriorError

if TYPE_CHECKING:
    from diarize.formats.posteriors import Posteriors
    from diarize.manifest import Session
    from diarize.postprocess import PostprocessConfig
    from diarize.tune import Labelled


def add_labelled(parser: argparse.ArgumentParser) -> None:
    """Declare what `labelled_sessions` reads, besides the flags of `add_judging`."""
    parser.add_argument(
        "manifest", metavar="MANIFEST", nargs="+", help="sessions with rttm_filepath"
    )
    parser.add_argument(
        "--posteriors", metavar="DIR", type=Path,
        help="SESSION.npz of `diarize infer --posteriors`; what is not there yet is judged by "
        "--model, and kept there",
    )  # fmt: skip
    parser.add_argument(
        "--model", metavar="NAME|PATH",
        help="as in infer; default: the one that made the posteriors, else the packaged one",
    )  # fmt: skip


def labelled_sessions(
    args: argparse.Namespace,
) -> "tuple[list[Labelled], PostprocessConfig]":
    """All sessions of the manifests, judged, and how their posteriors were to become turns.

    What is not judged yet is, by the model.
    """
    from diarize.manifest import reference_turns, scored_regions
    from diarize.tune import Labelled

    sessions = _sessions(args.manifest, args.channel)
    truth = {s.session_id: (reference_turns(s), scored_regions(s)) for s in sessions}
    known, postprocess = _judged(args, sessions)
    return [Labelled(name, known[name], *truth[name]) for name in truth], postprocess


def _sessions(manifests: Sequence[str], channel: int | None) -> "list[Session]":
    """All sessions of all manifests, of the channel that was asked for."""
    from diarize.manifest import read_manifest

    sessions = [session for path in manifests for session in read_manifest(path)]
    if channel is not None:
        sessions = [replace(session, channel=channel) for session in sessions]
    if not sessions:
        raise ManifestError(
            f"{', '.join(manifests)}: no sessions, but at least one is needed. Is it the right "
            "file?"
        )
    check_ids(sessions, files=True)
    return sessions


def _judged(
    args: argparse.Namespace, sessions: "Sequence[Session]"
) -> "tuple[dict[str, Posteriors], PostprocessConfig]":
    """Session id -> posteriors, those that are there and those that are not; their post-processing.

    A model is needed for the latter alone.
    """
    from diarize.config import load_config
    from diarize.postprocess import PostprocessConfig

    known = _stored(args, sessions)
    missing = [session for session in sessions if session.session_id not in known]
    if missing:
        return known, _judge(args, missing, known)
    facts = next(iter(known.values())).made_by
    meant = facts.get("inference", {}).get("postprocess", {})
    recommended = load_config(PostprocessConfig, values=meant)
    return known, asked_postprocess(args, recommended, facts.get("presets", {}))


def _stored(args: argparse.Namespace, sessions: "Sequence[Session]") -> "dict[str, Posteriors]":
    """Session id -> posteriors that lie in the folder, all of one model and of its settings."""
    from diarize.formats.posteriors import read_posteriors

    known: dict[str, Posteriors] = {}
    if args.posteriors is None:
        return known
    first = None
    for session in sessions:
        path = args.posteriors / f"{session.session_id}.npz"
        if not path.exists():
            continue
        found = known[session.session_id] = read_posteriors(path)
        _check_span(path, found, session)
        first = first or path
        _check_same(path, found.made_by, str(first), known[first.stem].made_by)
        _check_asked(path, found.made_by, args)
    return known


def _check_span(path: Path, found: "Posteriors", session: "Session") -> None:
    """See that posteriors are those of the session's span and channel."""
    from diarize.recording import open_recording

    made_of = found.made_by.get("channel")
    if made_of != session.channel:
        made, wants = (
            "the mean of all channels" if channel is None else f"channel {channel}"
            for channel in (made_of, session.channel)
        )
        raise PosteriorError(
            f"{path}: is of {made}, but session {session.session_id!r} of {session.where} is of "
            f"{wants}. Remove the file, or give another folder for --posteriors."
        )
    offset, duration = session.offset, session.duration
    if duration is None and session.audio.exists():
        duration = open_recording(session.audio, session.frame_shift).duration - offset
    wanted = (offset, found.duration if duration is None else duration)
    pairs = zip(wanted, (found.offset, found.duration), strict=True)
    if any(abs(want - have) > found.frame_shift for want, have in pairs):
        raise PosteriorError(
            f"{path}: begins at {found.offset:.2f} s and lasts {found.duration:.2f} s, but session "
            f"{session.session_id!r} of {session.where} begins at {wanted[0]:.2f} s and lasts "
            f"{wanted[1]:.2f} s. Remove the file, or give another folder for --posteriors."
        )


def _check_same(
    path: Path, facts: Mapping[str, Any], other: str, others: Mapping[str, Any]
) -> None:
    """See that posteriors are of one model, run in one way, whatever was to be made of them."""
    from diarize.experiment import differences

    different = differences(_deciding(facts), _deciding(others))
    if different:
        raise PosteriorError(
            f"{path}: was made with {'; '.join(different)} as {other}, but all posteriors must be "
            "of one model, run in one way. Remove the files of one, or give another folder for "
            "--posteriors."
        )


def _check_asked(path: Path, facts: Mapping[str, Any], args: argparse.Namespace) -> None:
    """See that posteriors were made as the flags say, where these say anything."""
    from diarize.experiment import differences

    names = ("latency", "window", "overlap", "num_speakers", "max_speakers")
    flags = {name: getattr(args, name) for name in ("model", *names)}
    asked = {name: value for name, value in flags.items() if value is not None}
    made = {**facts.get("inference", {}), **facts}
    different = differences({name: made.get(name) for name in asked}, asked)
    if different:
        raise PosteriorError(
            f"{path}: was made with {'; '.join(different)} as is asked. Leave the flag out, or "
            "give another folder for --posteriors."
        )


def _deciding(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What decides posteriors, of all that is said of their making and is no session's own."""
    settings = facts.get("inference", {})
    kept = {k: v for k, v in settings.items() if k not in ("batch_size", "postprocess")}
    return {**{k: v for k, v in facts.items() if k != "channel"}, "inference": kept}


def _judge(
    args: argparse.Namespace, sessions: "Sequence[Session]", known: "dict[str, Posteriors]"
) -> "PostprocessConfig":
    """Add the posteriors of sessions to those that are known; their post-processing.

    Raises:
        AudioError: if a session fails, once all others are done.
    """
    from diarize.formats.posteriors import Posteriors
    from diarize.inference import Failure, diarize_sessions
    from diarize.memory import keep_freed_memory

    if args.posteriors is not None:
        need_folder(args.posteriors)
    made = next((posteriors.made_by for posteriors in known.values()), {})
    model = str(args.model or made.get("model", "default"))
    keep_freed_memory()
    diarizer = load_network(model, args.device)
    config = asked_config(args, diarizer)
    facts = facts_of(config, made_by(model, diarizer, config))
    for name, posteriors in known.items():
        _check_same(args.posteriors / f"{name}.npz", posteriors.made_by, f"asked of {model}", facts)
    failures = []
    channels = {session.session_id: session.channel for session in sessions}
    for result in diarize_sessions(diarizer, sessions, config):
        facts = {**facts, "channel": channels[result.session_id]}
        if isinstance(result, Failure):
            failures.append(result)
        elif args.posteriors is not None:
            known[result.session_id] = keep_posteriors(args.posteriors, result, facts)
        else:
            span = (result.frame_shift, result.offset, result.duration)
            known[result.session_id] = Posteriors(result.posterior, *span, facts)
    for failure in failures:
        print(f"diarize {args.verb}: {failure.reason}", file=sys.stderr)
    if failures:
        raise AudioError(
            f"{len(failures)} of {len(sessions)} sessions could not be judged, but all are "
            "needed. Mend them, or leave them out of the manifest."
        )
    return config.postprocess
