"""Commands as processes of their own: how long they take, and how large they grow."""

import json
import subprocess
import sys

from report import Found

STARTER = """
import json, resource, subprocess, sys, time
begun = time.perf_counter()
failed = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
seconds = time.perf_counter() - begun
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
unit = 2**20 if sys.platform == "darwin" else 2**10  # Linux counts in KiB
print(json.dumps({"seconds": seconds, "peak": peak / unit}))
sys.exit(failed)
"""
"""A light process starts the command, since what Linux reports of a child begins with the memory of
the process that forked it, and this one may hold torch."""


def run(command: list[str]) -> Found:
    """Wall time, seconds, and largest resident memory, MiB, of a command that must succeed."""
    started = [sys.executable, "-c", STARTER, *command]
    done = subprocess.run(started, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(command)} failed; run it by hand")
    found: Found = json.loads(done.stdout)
    return found


def ask(command: list[str]) -> Found:
    """What a command measured: its last line, as JSON."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"bench: {' '.join(command)} failed:\n{done.stderr[-2000:]}")
    found: Found = json.loads(done.stdout.splitlines()[-1])
    return found
