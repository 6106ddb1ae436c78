"""Published models by their names on Hugging Face: which are known, and how they get here.

A name reads ``owner/name``, or ``owner/name@revision`` for a branch, a tag or a commit. What the
cache of huggingface_hub holds is taken without asking the network; what it lacks is downloaded
into it. Where the cache lies, and by which server, token and proxy it is filled, is
huggingface_hub's own affair: HF_HOME, HF_ENDPOINT, HF_TOKEN and HF_HUB_OFFLINE are its variables.
"""

import re
import sys
from collections.abc import Collection
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from diarize.errors import CheckpointError

WEBSITE = "https://huggingface.co"

NAME = re.compile(r"(?P<repository>\w[\w.-]*/\w[\w.-]*)(@(?P<revision>\w[\w.-]*(/\w[\w.-]*)*))?")

FILES = (".ckpt", ".json", ".jsonl", ".nemo", ".safetensors", ".yaml")
"""What ends like this is meant as a path."""

WEIGHTS = "model.safetensors"
FOLDERS = (("config.yaml",), ("config.json", "processor_config.json"))
"""What lies beside the weights of a model in a folder: in ours, and in that of transformers. Only
the first of each must be there."""


@dataclass(frozen=True)
class Published:
    """A published model that can be run here."""

    name: str
    """Owner and name on Hugging Face."""
    files: tuple[str, ...]
    """What is needed of its repository."""
    licence: str
    """Of the weights."""
    num_parameters: int
    num_speakers: int
    """That it tells apart."""
    frame_shift: float
    """Seconds from one answer to the next."""
    latencies: tuple[str, ...]
    """As ``--latency`` takes them."""

    @property
    def num_bytes(self) -> int:
        """Size of the weights, to which the other files add next to nothing."""
        return 4 * self.num_parameters


PUBLISHED = {
    model.name: model
    for model in (
        Published(
            "nvidia/diar_sortformer_4spk-v1",
            ("diar_sortformer_4spk-v1.nemo",),
            "CC-BY-NC-4.0",
            num_parameters=123_219_976,
            num_speakers=4,
            frame_shift=0.08,
            latencies=("offline",),
        ),
        Published(
            "nvidia/diar_streaming_sortformer_4spk-v2",
            ("diar_streaming_sortformer_4spk-v2.nemo",),
            "CC-BY-4.0",
            num_parameters=117_693_960,
            num_speakers=4,
            frame_shift=0.08,
            latencies=("30.4s", "10s", "1.04s", "0.32s"),
        ),
        Published(
            "nvidia/diar_streaming_sortformer_4spk-v2.1",
            ("diar_streaming_sortformer_4spk-v2.1.nemo",),
            "NVIDIA Open Model License",
            num_parameters=117_693_960,
            num_speakers=4,
            frame_shift=0.08,
            latencies=("30.4s", "10s", "1.04s", "0.32s"),
        ),
        Published(
            "nvidia/Nemotron-3-Diarization",
            ("config.json", "processor_config.json", WEIGHTS),
            "OpenMDW-1.1",
            num_parameters=99_226_504,
            num_speakers=8,
            frame_shift=0.01,
            latencies=("offline", "30.4s", "1.04s", "0.64s", "0.32s"),
        ),
    )
}
"""The models that are known to run here, by name."""


def is_name(text: str) -> bool:
    """Whether a text that is no path of anything is meant as a name on Hugging Face.

    What would lie in a folder that is here, or ends like a file of a model, is a mistyped path.
    """
    match = NAME.fullmatch(text)
    if match is None or match["repository"] in PUBLISHED:
        return match is not None
    path = Path(match["repository"])
    return not path.parent.is_dir() and path.suffix not in FILES


def published(name: str) -> Published | None:
    """What is known of a model, whatever the revision; None for others."""
    return PUBLISHED.get(name.partition("@")[0])


def cached(name: str) -> bool:
    """Whether `fetch` would answer without the network."""
    return NAME.fullmatch(name) is not None and _in_cache(name) is not None


def fetch(name: str) -> Path:
    """A model as a local file or folder, downloaded unless the cache has it.

    Of known models the known files are taken; of others, weights in safetensors with their
    settings, else the one .nemo archive. The licence is told on standard error before a download.

    Args:
        name: ``owner/name``, or ``owner/name@revision``.

    Raises:
        CheckpointError: if the model cannot be had, with the ways to have it nevertheless.
    """
    repository, _ = _parts(name)
    if find_spec("huggingface_hub") is None:
        raise _refusal(
            name,
            "huggingface_hub, which fetches models, is not installed",
            "Install it with: pip install 'diarize[hub]'; or",
        )
    found = _in_cache(name)
    if found is not None:
        return found
    try:
        return _download(name)
    except CheckpointError:
        raise
    except Exception as error:  # those of httpx, which asks for it, share no base with OSError
        raise _explained(name, repository, error) from None


def _parts(name: str) -> tuple[str, str | None]:
    """Repository and revision."""
    match = NAME.fullmatch(name)
    if match is None:
        raise CheckpointError(
            f"{name!r}: is no name of a published model, but such a name reads owner/name or "
            "owner/name@revision. Check it."
        )
    return match["repository"], match["revision"]


def _in_cache(name: str) -> Path | None:
    """The model, if the cache holds all of it."""
    try:
        from huggingface_hub import constants
    except ModuleNotFoundError:
        return None
    repository, revision = _parts(name)
    revision = revision or constants.DEFAULT_REVISION
    store = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}"
    branch = store / "refs" / revision
    commit = branch.read_text().strip() if branch.is_file() else revision
    snapshot = store / "snapshots" / commit
    if not snapshot.is_dir():
        return None
    files = _needed(repository, {path.name for path in snapshot.iterdir() if path.is_file()})
    return _place(snapshot, files) if files else None


def _download(name: str) -> Path:
    """The model, as the cache holds it from now on."""
    from huggingface_hub import hf_hub_download, model_info

    repository, revision = _parts(name)
    info = model_info(repository, revision=revision)
    held = {file.rfilename for file in info.siblings or () if "/" not in file.rfilename}
    files = _needed(repository, held)
    if not files:
        known = published(name)
        wanted = "one .nemo archive, or safetensors with config.yaml or config.json"
        if known is not None:
            wanted = " and ".join(known.files)
        listed = _plain(", ".join(sorted(held))) or "nothing"
        raise _refusal(name, f"its repository has {listed}, and needed is {wanted}")
    _tell_licence(name, info)
    places = {Path(hf_hub_download(repository, file, revision=revision)).parent for file in files}
    if len(places) > 1:
        raise _refusal(name, "it was changed while it was fetched", "Fetch it again; or")
    return _place(places.pop(), files)


def _needed(repository: str, held: Collection[str]) -> tuple[str, ...]:
    """Which of a repository's files make the model, weights last; none where some are missing."""
    known = PUBLISHED.get(repository)
    if known is not None:
        return known.files if set(known.files) <= set(held) else ()
    for first, *others in FOLDERS:
        if {first, WEIGHTS} <= set(held):
            return (first, *(file for file in others if file in held), WEIGHTS)
    archives = [file for file in held if file.endswith(".nemo")]
    return tuple(archives) if len(archives) == 1 else ()


def _place(folder: Path, files: tuple[str, ...]) -> Path:
    """Path of a model of these files: its archive, or its folder."""
    return folder / files[0] if len(files) == 1 else folder


def _tell_licence(name: str, info: object) -> None:
    """Say, before it is downloaded, under which licence a model comes."""
    known = published(name)
    card = getattr(info, "card_data", None)
    told = [getattr(card, key, None) for key in ("license_name", "license")]
    licence = known.licence if known else next((_plain(t) for t in told if t), "not told")
    size = f", {known.num_bytes / 1e6:.0f} MB" if known else ""
    print(f"{name}: is downloaded{size}; licence: {licence}", file=sys.stderr, flush=True)


def _plain(text: object) -> str:
    """Text of a stranger's as one line that no terminal takes for a command."""
    return "".join(c if c.isprintable() else " " for c in str(text))


def _explained(name: str, repository: str, error: Exception) -> CheckpointError:
    """What an error of huggingface_hub means to whoever asked for a model."""
    from huggingface_hub import constants, errors

    endpoint = constants.ENDPOINT
    chain: list[BaseException] = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) and cause not in chain:
        chain.append(cause)
    status = getattr(getattr(error, "response", None), "status_code", None)
    reason = " ".join(str(chain[-1]).split()) or type(chain[-1]).__name__
    if any(isinstance(link, errors.OfflineModeIsEnabled) for link in chain):
        return _refusal(
            name,
            "the cache does not hold it, and HF_HUB_OFFLINE forbids to ask the network",
            "Fetch it once without that variable; or",
        )
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return _refusal(
            name,
            "only those may fetch it who have accepted its conditions",
            f"Accept them on {WEBSITE}/{repository} and set HF_TOKEN to a token of yours; or",
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return _refusal(
            name, f"{endpoint}/{repository} has no such revision", "Check what follows the @; or"
        )
    if isinstance(error, errors.RepositoryNotFoundError) or status in (401, 404):
        return _refusal(
            name,
            f"{endpoint} has no model of this name, or keeps it private",
            "Check the name, or set HF_TOKEN to a token that may read it; or",
        )
    if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError):
        place = error.filename or constants.HF_HUB_CACHE
        return _refusal(
            name,
            f"it cannot be stored in {place} ({error.strerror})",
            "Make room, or set HF_HOME to another folder; or",
        )
    return _refusal(
        name,
        f"it could not be fetched from {endpoint} ({reason})",
        "Try again when that can be reached; or",
    )


def _refusal(name: str, obstacle: str, way_out: str = "") -> CheckpointError:
    """Why a model cannot be had, and both ways out."""
    repository, _ = _parts(name)
    known = published(name)
    what = "is published on Hugging Face" if known else "is no file or folder here"
    by_hand = f"download {'it' if known is None else ' and '.join(known.files)} by hand"
    if not way_out:
        by_hand = by_hand.capitalize()
    way_out = f"{way_out} {by_hand}".strip()
    return CheckpointError(
        f"{name}: {what}, but {obstacle}. {way_out} from {WEBSITE}/{repository} and give its path."
    )
