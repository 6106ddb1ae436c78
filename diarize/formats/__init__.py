"""File formats, one per module: rttm, uem and json."""
