"""Priors for models that were trained without one: what a stream's features are expected to be."""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace

import torch

from diarize.checkpoint import PRIOR, Checkpoint
from diarize.config import load_config
from diarize.errors import CheckpointError
from diarize.frontend.log_mel import LogMel, LogMelConfig
from diarize.manifest import Session
from diarize.recording import AUDIO, open_recording, refuse_unheard

PRIOR_SECONDS = 5.0
"""Seconds that a prior counts for, unless the model says otherwise: a turn or two."""

PIECE = 60.0
"""Seconds that are heard at once."""


def with_prior(checkpoint: Checkpoint, sessions: Iterable[Session]) -> Checkpoint:
    """A model that streams, with what sessions sound like as its prior.

    Whole recordings it hears as before.

    Args:
        checkpoint: of a model that normalises ``per_feature``; a prior that it has is replaced.
        sessions: of audio, such as it was trained on, or of development.

    Raises:
        CheckpointError: if the model needs no prior.
        DiarizeError: if a recording cannot be read, or there is none.
    """
    settings = deepcopy(checkpoint.diarizer)
    front_end = settings["front_end"]
    config = load_config(LogMelConfig, values=front_end.get("mel") or {})
    if "mel" not in front_end or config.normalization != "per_feature":
        found = "no log-mel energies"
        if "mel" in front_end:
            found = f"mel.normalization {config.normalization}"
        raise CheckpointError(
            f"{checkpoint.path}: has {found}, but a prior is for features that are normalised "
            "per_feature. Leave the prior out."
        )
    config = replace(config, prior_seconds=config.prior_seconds or PRIOR_SECONDS)
    mel = LogMel(config)
    for name in ("window", "filter_bank"):
        getattr(mel, name).copy_(checkpoint.tensors[f"front_end.mel.{name}"])
    for session in sessions:
        _listen(mel, session)
    if not mel.heard[0].any():
        raise CheckpointError(
            f"{checkpoint.path}: is to have a prior, but no session holds any audio. Give others."
        )
    front_end["mel"] = front_end["mel"] | {"prior_seconds": config.prior_seconds}
    return replace(checkpoint, diarizer=settings, tensors=checkpoint.tensors | {PRIOR: mel.heard})


def _listen(mel: LogMel, session: Session) -> None:
    """Add the frames of a session."""
    name = f"{session.where}: session {session.session_id!r}"
    recording = open_recording(session.audio, session.frame_shift, session.channel)
    refuse_unheard(name, recording.kind, AUDIO)
    start, stop = recording.span(name, session.offset, min(session.end, recording.duration))
    piece = round(PIECE * recording.sample_rate)
    for first in range(start, stop, piece):
        samples = torch.from_numpy(recording.read(first, min(piece, stop - first)))
        mel.hear(samples[None], torch.tensor([len(samples)]))
