"""Mistakes that a user can mend, each told once with where, what and the way out.

A message reads ``{where}: {what is}, but {what it meets}. {The way out.}``; readers of
text files always know ``path:line``.
"""


class DiarizeError(ValueError):
    """Anything wrong with what the user gave us; the command line prints it in one line."""


class ManifestError(DiarizeError):
    """A manifest line that cannot be used."""


class RttmError(DiarizeError):
    """An RTTM or UEM line, or a set of turns, that cannot be read or written."""


class AudioError(DiarizeError):
    """A recording that cannot be opened, read or converted."""


class FeatureError(DiarizeError):
    """An array of features that cannot be opened or read."""


class PosteriorError(DiarizeError):
    """Posteriors that cannot be read, or belong to something else."""


class ConfigError(DiarizeError):
    """A configuration key or value that no component has."""


class CheckpointError(DiarizeError):
    """A checkpoint that is missing, of another format, or does not fit its model."""


class ScoreError(DiarizeError):
    """References and hypotheses that cannot be compared."""


class CorpusError(DiarizeError):
    """Files of a corpus that are missing, or are not as they were published."""
