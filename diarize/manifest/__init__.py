"""Manifests: JSON Lines, one session per line, with the keys that NeMo gave the field.

::

    {"audio_filepath": "a.wav", "offset": 0.0, "duration": null, "rttm_filepath": "a.rttm"}

Times are seconds of the recording. Paths are relative to the manifest's folder. Keys that
nobody here knows are carried from reading to writing.
"""

from diarize.manifest.build import build_manifest
from diarize.manifest.check import check_manifest
from diarize.manifest.features import write_features
from diarize.manifest.reference import (
    reference_file,
    reference_turns,
    scored_regions,
    within_span,
)
from diarize.manifest.session import Session, read_manifest, write_manifest

__all__ = [
    "Session",
    "build_manifest",
    "check_manifest",
    "read_manifest",
    "reference_file",
    "reference_turns",
    "scored_regions",
    "within_span",
    "write_features",
    "write_manifest",
]
