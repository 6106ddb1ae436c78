"""File formats, one per module: rttm, uem, json, nxt, seglst and textgrid."""
