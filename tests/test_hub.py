"""Published models by name: downloaded once from a stand-in for Hugging Face, refused in words."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from standin import TOKEN, Repository, StandIn

import diarize.checkpoint as checkpoint_module
from diarize.checkpoint import read_checkpoint
from diarize.errors import CheckpointError
from diarize.hub import NAME, PUBLISHED, cached, fetch, is_name, published
from diarize.latency import parse_latency

V1 = "nvidia/diar_sortformer_4spk-v1"
NEMOTRON = "nvidia/Nemotron-3-Diarization"
ARCHIVE = bytes(range(256)) * 400

ASK = """
import sys
from diarize.errors import CheckpointError
from diarize.hub import cached, fetch
for name in sys.argv[1:]:
    before = cached(name)
    try:
        place = fetch(name)
    except CheckpointError as error:
        place = error
    print(before, cached(name), place)
"""


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[StandIn]:
    with StandIn(tmp_path / "home") as standin:
        yield standin


def ask(hub: StandIn, *names: str, **environment: str) -> tuple[list[str], str]:
    """For each name, whether it was and is in the cache, and where it lies; and what was told."""
    pytest.importorskip("huggingface_hub")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ASK, *names],
        env=hub.environment | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr


def refusal(hub: StandIn, name: str, **environment: str) -> str:
    (answer,), told = ask(hub, name, **environment)
    assert answer.startswith(f"False False {name}: "), answer
    return answer.removeprefix("False False ")


def place(answer: str) -> Path:
    before, after, path = answer.split(" ", 2)
    assert after == "True", answer
    return Path(path)


# ---- names


def test_known_models_say_what_they_are() -> None:
    for name, model in PUBLISHED.items():
        assert name == model.name and NAME.fullmatch(name) and is_name(name)
        assert published(f"{name}@main") is model
        for latency in model.latencies if model.num_speakers == 4 else ():
            parse_latency(latency)
    assert PUBLISHED[V1].num_bytes == pytest.approx(493e6, rel=0.01)
    assert PUBLISHED[V1].licence == "CC-BY-NC-4.0"
    assert PUBLISHED[NEMOTRON].num_speakers == 8 and PUBLISHED[NEMOTRON].frame_shift == 0.01


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a-lab/a.model-1", True),
        ("a-lab/a.model-1@v2", True),
        (f"{V1}@refs/pr/2", True),
        (f"{V1}@../../elsewhere", False),
        ("default", False),
        ("a-lab/a/b", False),
        ("/a-lab/model", False),
        ("./a-lab/model", False),
        ("../model", False),
        ("a-lab/..", False),
        ("a-lab/model.nemo", False),
        ("a-lab/model.ckpt", False),
        ("here/model", False),
        ("a lab/model", False),
    ],
)
def test_names_are_told_from_paths(
    text: str, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "nvidia").mkdir()
    monkeypatch.chdir(tmp_path)
    assert is_name(text) == expected


def test_a_path_is_never_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoint_module, "fetch", lambda name: pytest.fail(name))
    (tmp_path / "a-lab" / "model").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="^a-lab/model: holds neither"):
        read_checkpoint("a-lab/model")
    with pytest.raises(CheckpointError, match="^a-lab/modle: is no packaged model, file or folder"):
        read_checkpoint("a-lab/modle")


def test_what_is_no_name_is_not_fetched() -> None:
    with pytest.raises(CheckpointError, match=r"^'a/b/c': is no name .* reads owner/name or"):
        fetch("a/b/c")
    assert not cached("a/b/c")


# ---- fetched


def test_a_known_model_is_downloaded_once(hub: StandIn) -> None:
    hub.published[V1] = Repository({"diar_sortformer_4spk-v1.nemo": ARCHIVE, "README.md": b"#"})
    (answer, again), told = ask(hub, V1, V1)
    path = place(answer)
    assert path.name == "diar_sortformer_4spk-v1.nemo" and path.read_bytes() == ARCHIVE
    assert answer.startswith("False ") and again == f"True True {path}"
    assert path.is_relative_to(hub.home)
    assert told.startswith(f"{V1}: is downloaded, 493 MB; licence: CC-BY-NC-4.0\n")
    assert told.count("licence") == 1
    assert not [line for line in hub.asked if "README" in line]
    hub.shut()
    for offline in ("0", "1"):
        (answer,), told = ask(hub, V1, HF_HUB_OFFLINE=offline)
        assert (answer, told) == (again, "")


def test_a_known_model_of_several_files_is_a_folder(hub: StandIn) -> None:
    files = {name: name.encode() for name in PUBLISHED[NEMOTRON].files}
    hub.published[NEMOTRON] = Repository({**files, "Nemotron-3-Diarization.nemo": b"other"})
    (answer,), told = ask(hub, NEMOTRON)
    assert {p.name: p.read_bytes() for p in place(answer).iterdir()} == files
    assert "licence: OpenMDW-1.1\n" in told


def test_others_show_what_they_are_by_their_files(hub: StandIn) -> None:
    beside = {"README.md": b"#", "sub/other.nemo": b"x"}
    weights = {"model.safetensors": b"w"}
    ours = {"config.yaml": b"c", **weights}
    theirs = {"config.json": b"c", "processor_config.json": b"p", **weights}
    card = {"license": "other", "license_name": "a-licence"}
    hub.published |= {
        "lab/archive": Repository({"a.nemo": ARCHIVE, **beside}, {"license": "mit"}),
        "lab/ours": Repository(ours | beside, card),
        "lab/theirs": Repository({**theirs, "a.nemo": ARCHIVE}),
    }
    answers, told = ask(hub, "lab/archive", "lab/ours", "lab/theirs")
    archive, native, folder = map(place, answers)
    assert archive.name == "a.nemo" and archive.read_bytes() == ARCHIVE
    assert {path.name: path.read_bytes() for path in native.iterdir()} == ours
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == theirs
    assert [line for line in told.splitlines() if "licence" in line] == [
        "lab/archive: is downloaded; licence: mit",
        "lab/ours: is downloaded; licence: a-licence",
        "lab/theirs: is downloaded; licence: not told",
    ]
    hub.shut()
    assert ask(hub, "lab/archive", "lab/ours", "lab/theirs", HF_HUB_OFFLINE="1")[0] == [
        f"True {answer.removeprefix('False ')}" for answer in answers
    ]


def test_a_revision_is_kept_apart(hub: StandIn) -> None:
    hub.published["lab/model"] = Repository({"a.nemo": b"old"}, revisions=("v1", "main"))
    (tagged,), _ = ask(hub, "lab/model@v1")
    hub.published["lab/model"] = Repository({"a.nemo": b"new"})
    (newest, old, commit), told = ask(
        hub, "lab/model", "lab/model@v1", f"lab/model@{hub.published['lab/model'].commit}"
    )
    assert place(tagged).read_bytes() == place(old).read_bytes() == b"old"
    assert place(newest).read_bytes() == b"new" and commit == f"True True {place(newest)}"
    assert told.count("licence") == 1


def test_a_download_that_breaks_off_is_not_taken(hub: StandIn) -> None:
    name = "diar_sortformer_4spk-v1.nemo"
    hub.published[V1] = Repository({name: ARCHIVE}, breaks_off=True)
    assert f"{V1}: is published on Hugging Face, but it could not be fetched from " in refusal(
        hub, V1
    )
    assert not [path for path in hub.home.rglob("*.nemo") if path.exists()]
    assert "HF_HUB_OFFLINE" in refusal(hub, V1, HF_HUB_OFFLINE="1")
    hub.published[V1].breaks_off = False
    (answer,), _ = ask(hub, V1)
    assert place(answer).read_bytes() == ARCHIVE


# ---- refused


def test_no_such_model(hub: StandIn) -> None:
    hub.published["lab/model"] = Repository({"a.nemo": b"a"})
    hub.published[V1] = Repository({"other.nemo": b"a"})
    hub.published["lab/two"] = Repository({"a.nemo": b"a", "b.nemo": b"b", "config.json": b"c"})
    hub.published["lab/none"] = Repository({})
    endpoint = hub.environment["HF_ENDPOINT"]
    answers, told = ask(hub, "lab/modle", "lab/model@v9", V1, "lab/two", "lab/none")
    missing, unversioned, renamed, two, none = (
        answer.removeprefix("False False ") for answer in answers
    )
    assert missing == (
        f"lab/modle: is no file or folder here, but {endpoint} has no model of this name, or keeps "
        "it private. Check the name, or set HF_TOKEN to a token that may read it; or download it "
        "by hand from https://huggingface.co/lab/modle and give its path."
    )
    assert f"but {endpoint}/lab/model has no such revision. Check what follows the @" in unversioned
    assert "but its repository has other.nemo, and needed is diar_sortformer_4spk-v1.n" in renamed
    assert "has a.nemo, b.nemo, config.json, and needed is one .nemo archive, or safetens" in two
    assert "but its repository has nothing, and" in none
    assert "Download it by hand from https://huggingface.co/lab/none and give its path." in none
    assert told == ""


def test_a_gate_opens_for_a_token(hub: StandIn) -> None:
    hub.published[V1] = Repository({"diar_sortformer_4spk-v1.nemo": ARCHIVE}, gated=True)
    told = refusal(hub, V1)
    assert "but only those may fetch it who have accepted its conditions. Accept them on" in told
    assert f"https://huggingface.co/{V1} and set HF_TOKEN to" in told
    (answer,), _ = ask(hub, V1, HF_TOKEN=TOKEN)
    assert place(answer).read_bytes() == ARCHIVE


def test_without_a_network(hub: StandIn) -> None:
    hub.shut()
    told = refusal(hub, V1)
    assert f"could not be fetched from {hub.environment['HF_ENDPOINT']} ([Errno" in told
    assert "Connection refused" in told
    assert told.endswith(
        "Try again when that can be reached; or download diar_sortformer_4spk-v1.nemo by hand "
        f"from https://huggingface.co/{V1} and give its path."
    )


def test_offline(hub: StandIn) -> None:
    told = refusal(hub, "lab/model", HF_HUB_OFFLINE="1")
    assert "lab/model: is no file or folder here, but the cache does not hold it, and HF_" in told
    assert "Fetch it once without that variable; or download it by hand from https://hu" in told
    assert hub.asked == []


def test_without_room(hub: StandIn, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    hub.published[V1] = Repository({"diar_sortformer_4spk-v1.nemo": ARCHIVE})
    told = refusal(hub, V1, HF_HOME=str(tmp_path / "file"))
    assert f"it cannot be stored in {tmp_path / 'file'}" in told
    assert "(Not a directory). Make room, or set HF_HOME to another folder; or" in told


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(V1)
    assert str(caught.value) == (
        f"{V1}: is published on Hugging Face, but huggingface_hub, which fetches models, is not "
        "installed. Install it with: pip install 'diarize[hub]'; or download "
        f"diar_sortformer_4spk-v1.nemo by hand from https://huggingface.co/{V1} and give its path."
    )
    assert not cached(V1)
