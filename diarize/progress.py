"""How far a long job is: a bar on a terminal, a line now and then where output is a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

QUIET_SECONDS = 30.0
"""Between two lines of a log, seconds."""


@contextmanager
def progress(total: float, unit: str, show: bool = True) -> Iterator[Callable[[float], None]]:
    """Tell on standard error how much of ``total`` is done.

    Args:
        total: how much there is to do.
        unit: what is counted, in the plural.
        show: False tells nothing.

    Yields:
        A function that takes how much more was done.
    """
    if show and sys.stderr.isatty():
        layout = "{percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} {unit} [{elapsed}<{remaining}]"
        with tqdm(total=total, unit=unit, bar_format=layout, leave=False) as bar:
            yield bar.update
    else:
        yield _Log(total, unit) if show else _ignore


class _Log:
    """A line on standard error at most every half minute."""

    def __init__(self, total: float, unit: str) -> None:
        self.total = total
        self.unit = unit
        self.done = 0.0
        self.told = time.monotonic()

    def __call__(self, more: float) -> None:
        self.done += more
        if time.monotonic() - self.told >= QUIET_SECONDS:
            self.told = time.monotonic()
            print(f"{self.done:.0f} of {self.total:.0f} {self.unit}", file=sys.stderr, flush=True)


def _ignore(more: float) -> None:
    pass
