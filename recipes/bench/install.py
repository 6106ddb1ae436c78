"""What an installation brings along: packages, and what they take on disk.

    .venv/bin/python recipes/bench/install.py diarize
    .peers/bin/python recipes/bench/install.py 'nemo_toolkit[asr]'

Of what the Python at hand has installed, the packages that the named one leads to; torch, and what
torch leads to, aside. Files are counted as they lie there, compiled Python left out.
"""

import argparse
import json
import re
from collections.abc import Iterable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

ACCELERATOR_WHEELS = ("nvidia-", "cuda-", "triton")
"""torch's own for CUDA: as many as a version of torch has, and none on other machines."""


def main() -> None:
    """Print how many packages there are, their size, and their names."""
    parser = argparse.ArgumentParser(description="Packages that one leads to, and their size.")
    parser.add_argument("requirement", help="as pip takes it")
    args = parser.parse_args()
    names = closure([Requirement(args.requirement)]) - closure([Requirement("torch")])
    names = {name for name in names if not name.startswith(ACCELERATOR_WHEELS)}
    mebibytes = sum(map(size, names)) / 2**20
    print(json.dumps({"packages": len(names), "MiB": mebibytes, "names": sorted(names)}))


def closure(requirements: Iterable[Requirement]) -> set[str]:
    """Names of all installed packages that the requirements lead to."""
    found: set[str] = set()
    waiting = [(requirement, "") for requirement in requirements]
    seen: set[tuple[str, str]] = set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        found.add(name)
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                needs = metadata.requires(requirement.name) or []
                waiting.extend((Requirement(need), wanted) for need in needs)
    return found


def size(name: str) -> int:
    """Bytes of a package's files; of one that is installed editable, where its code lies."""
    distribution = metadata.distribution(name)
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        found = find_spec(name)
        assert found is not None and found.submodule_search_locations is not None
        folders = map(Path, found.submodule_search_locations)
        places = [path for folder in folders for path in folder.rglob("*")]
    else:
        places = [Path(str(file.locate())) for file in distribution.files or []]
    kept = (place for place in places if place.suffix != ".pyc" and place.is_file())
    return sum(place.stat().st_size for place in kept)


if __name__ == "__main__":
    main()
