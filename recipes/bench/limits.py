"""How fast this machine multiplies matrices and copies memory, at this moment, by two threads.

    .venv/bin/python recipes/bench/limits.py

What a model takes at least is the larger of its operations by the first and its bytes by the
second.
"""

import json
import time

from report import Found

SHAPES = [(390, 512, 2048), (750, 192, 768), (2048, 2048, 2048)]
"""Rows, inner and outer width: a stream's step in the published front end, a minute of its encoder,
and what a machine is at its best with."""

SECONDS = 0.3
"""For which each is repeated."""


def main() -> None:
    """Print them."""
    print(json.dumps(limits()))


def limits() -> Found:
    """GFLOP/s of float32 and bfloat16, the best of all shapes, and GB/s read and written."""
    import torch

    torch.set_num_threads(2)
    found: Found = {}
    for name, dtype in (("GFLOP/s", torch.float32), ("bf16 GFLOP/s", torch.bfloat16)):
        rates = []
        for rows, inner, outer in SHAPES:
            left = torch.ones(rows, inner, dtype=dtype)
            right = torch.ones(inner, outer, dtype=dtype)
            made = torch.empty(rows, outer, dtype=dtype)
            fastest = _fastest(lambda a=left, b=right, c=made: torch.mm(a, b, out=c))
            rates.append(2e-9 * rows * inner * outer / fastest)
        found[name] = max(rates)
    source = torch.ones(1 << 26)
    copy = torch.empty_like(source)
    found["GB/s"] = 2e-9 * source.nbytes / _fastest(lambda: copy.copy_(source))
    return found


def _fastest(work: object) -> float:
    """Seconds of the fastest repetition."""
    assert callable(work)
    times: list[float] = []
    until = time.perf_counter() + SECONDS
    while len(times) < 2 or time.perf_counter() < until:
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return min(times)


if __name__ == "__main__":
    main()
