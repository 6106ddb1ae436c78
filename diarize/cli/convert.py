"""``diarize convert``: any model as a folder of this package."""

import argparse
import sys
from pathlib import Path
from typing import Any

from diarize.errors import CheckpointError

DTYPES = ("float32", "float16", "bfloat16")

MODEL_FILES = ("model.safetensors", "config.yaml", "config.json", "checkpoints")
"""By which a folder that holds a model, or makes one, is known."""


def add_convert(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Declare the verb."""
    parser: argparse.ArgumentParser = verbs.add_parser(
        "convert",
        help="write any model as model.safetensors with config.yaml",
        description="Write any model that --model takes as a folder with model.safetensors and "
        "config.yaml, which loads without unpickling and without other files. How the model is "
        "best run is kept, and what is known of its making. With --prior-of, a model that "
        "normalises what it hears over whole recordings streams as well.",
    )
    parser.add_argument("model", metavar="MODEL", help="a name, a checkpoint, or exp/name")
    parser.add_argument(
        "--output", metavar="DIR", type=Path, required=True, help="a folder that holds no model yet"
    )
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32",
        help="of the parameters on disk; they are float32 again when loaded. float32, the "
        "default, changes nothing; the others halve the size",
    )  # fmt: skip
    parser.add_argument(
        "--prior-of", metavar="MANIFEST", type=Path,
        help="begin streams with what these sessions sound like on average, such as those of "
        "training; what comes is normalised by that and by all that was heard so far",
    )  # fmt: skip
    parser.set_defaults(run=run_convert)
    return parser


def run_convert(args: argparse.Namespace) -> int:
    """Write the folder, and say on standard error what it holds."""
    refuse_model(args.output)
    import torch

    from diarize.checkpoint import build, read_checkpoint, save_checkpoint

    checkpoint = read_checkpoint(args.model)
    card = origin_of(args.model) | checkpoint.card
    if args.prior_of is not None:
        from diarize.manifest import read_manifest
        from diarize.prior import with_prior

        checkpoint = with_prior(checkpoint, read_manifest(args.prior_of))
        card |= {"prior_of": args.prior_of.name}
    diarizer = build(checkpoint)
    dtype = getattr(torch, args.dtype)
    for name, parameter in diarizer.named_parameters():
        if not parameter.to(dtype).isfinite().all():
            raise CheckpointError(
                f"{checkpoint.path}: {name} goes to {parameter.abs().max():g}, but {args.dtype} "
                f"ends at {torch.finfo(dtype).max:g}. Give another --dtype."
            )
    save_checkpoint(diarizer, args.output, dtype, card)
    size = (args.output / "model.safetensors").stat().st_size
    told = f"{args.output}: {size / 1e6:.1f} MB in {args.dtype}."
    print(f"diarize convert: {told}", file=sys.stderr)
    return 0


def refuse_model(folder: Path) -> None:
    """See that a folder holds no model yet.

    Raises:
        CheckpointError: if it does.
    """
    for name in MODEL_FILES:
        if (folder / name).exists():
            raise CheckpointError(
                f"{folder}: holds {name}, but a model that is there is not overwritten. "
                "Give another --output."
            )


def origin_of(model: str) -> dict[str, Any]:
    """Where a model comes from, unless it says so itself."""
    from diarize.hub import is_name, published

    if Path(model).exists() or not is_name(model):
        return {"converted_from": Path(model).name}
    known = published(model)
    licence = {} if known is None else {"licence": known.licence}
    return {"converted_from": model, **licence}
