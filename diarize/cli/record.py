"""What made the turns of a folder: a record that ``infer`` leaves and ``score`` finds.

RTTM has no place for it that all readers pass over: lhotse and pyannote.database refuse comments.
So it is a file beside, ``infer-<hash>.passport``, JSON that names its RTTM files by their SHA-256.
A file is known by that, wherever it is moved, and one that was changed since is not.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from diarize.errors import ScoreError

if TYPE_CHECKING:
    from diarize.inference import InferenceConfig, Network
    from diarize.model import Diarizer

SUFFIX = ".passport"

FORMAT = "diarize infer 1"
"""What a record says that it is."""


def made_by(model: str, diarizer: "Network", config: "InferenceConfig") -> dict[str, Any]:
    """A model, by its name and its weights, and the settings it is run with."""
    from dataclasses import asdict

    settings = asdict(config)
    for names in ("latencies", "presets"):  # what there was to choose from
        del settings[names]
    return {"model": model, "weights_sha256": digest_of(diarizer), "inference": settings}


def write_record(folder: Path, making: Mapping[str, Any], files: Mapping[str, str]) -> None:
    """Leave a record beside files.

    Args:
        folder: where they lie.
        making: what ``made_by`` says.
        files: name -> SHA-256.
    """
    from hashlib import sha256

    from diarize.environment import environment
    from diarize.files import write_text

    values = {"format": FORMAT, **making, "environment": environment(), "files": dict(files)}
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    write_text(folder / f"infer-{sha256(text.encode()).hexdigest()[:8]}{SUFFIX}", text)


def find_records(files: Mapping[str, str]) -> tuple[list[dict[str, Any]], list[str]]:
    """Records of files, each with ``num_files``, and notes on files that were changed since.

    Where there are records for some files, the others are counted without a model.

    Args:
        files: path -> SHA-256.

    Raises:
        ScoreError: if a record cannot be read.
    """
    from diarize.score.report import counted

    folders = {Path(path).parent for path in files}
    places = [path for folder in folders for path in folder.glob(f"*{SUFFIX}")]
    # Of records that name the same file, the last one counts: it was written again, alike.
    records = [_read(path) for path in sorted(places, key=lambda p: (p.stat().st_mtime_ns, p))]
    of_hash = {sha: number for number, r in enumerate(records) for sha in r["files"].values()}
    names = {name for record in records for name in record["files"]}
    counts: dict[int, int] = {}
    changed = []
    for path, sha in files.items():
        number = of_hash.get(sha, -1)
        counts[number] = counts.get(number, 0) + 1
        if number < 0 and Path(path).name in names:
            changed.append(path)
    if counts.keys() <= {-1}:
        counts = {}
    found = [
        {k: v for k, v in (records[n].items() if n >= 0 else ()) if k not in ("files", "format")}
        | {"num_files": count}
        for n, count in sorted(counts.items(), reverse=True)
    ]
    if not changed:
        return found, []
    told = counted(len(changed), "file")
    return found, [f"{told} of the hypothesis ({changed[0]}) changed since `diarize infer`"]


def _read(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if values["format"] == FORMAT and isinstance(values["files"], dict):
            return values
        reason = f"its format is {values['format']!r}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = str(error)
    raise ScoreError(
        f"{path}: cannot be read ({reason}), but `diarize infer` leaves there what made the files "
        "beside it. Remove it."
    )


def digest_of(diarizer: "Network") -> str:
    """SHA-256 of a model's weights by their names, in whichever file they are stored.

    Of one that was exported, that of its graph.
    """
    from hashlib import sha256

    from diarize.exported import ExportedDiarizer

    if isinstance(diarizer, ExportedDiarizer):
        return diarizer.digest
    import torch

    whole = sha256()
    for name, tensor in sorted(cast("Diarizer", diarizer).state_dict().items()):
        whole.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        whole.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return whole.hexdigest()
