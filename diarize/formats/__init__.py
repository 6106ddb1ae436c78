"""File formats, one per module: rttm, uem, json, nxt and textgrid."""
