"""Every fenced block of the documentation does what it says.

Blocks of python and of bash run, file by file and from top to bottom, in a
scratch copy of the repository's root that also holds a recording and its reference, ``meeting.wav``
and ``meeting.rttm``. A block of set-up commands
(`SET_UP`) is not run: these take minutes or a fresh machine. Each of its lines is held against the
Makefile, setup.cfg and the recipes instead. So are the commands of a console block, which ran
elsewhere, and those of ``diarize`` against its verbs and options. Blocks of text show output or
drawings, never a command.
"""

import configparser
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import soundfile

from diarize.cli import _parser
from diarize.formats.rttm import read_rttm, write_rttm

ROOT = Path(__file__).parents[1]
SET_UP = ("git clone", "cd ", "make", "pip install", "apt-get install", "python3 -m venv")
SET_UP += ("bash recipes/", "python recipes/", "recipes/")
LANGUAGES = {"python", "bash", "console", "text", "yaml", "json"}


class Block(NamedTuple):
    """A fenced block: where its first line stands, its language, its text."""

    path: Path
    line: int
    language: str
    text: str

    @property
    def commands(self) -> list[str]:
        """Lines of a shell block, continued lines joined, without comments.

        Where lines of a console block begin with "$ ", all others are output.
        """
        joined = self.text.replace("\\\n", " ")
        if prompted := re.findall(r"^\$ (.*)", joined, re.MULTILINE):
            joined = "\n".join(prompted)
        lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines())
        return [line for line in lines if line]

    @property
    def is_set_up(self) -> bool:
        return self.language == "bash" and self.commands[0].startswith(SET_UP)


def documents() -> list[Path]:
    tops = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")]
    return sorted([*tops, *ROOT.glob("recipes/*.md"), *ROOT.glob("recipes/*/*.md")]) + sorted(
        ROOT.glob("manifests/*.md")
    )


def blocks(path: Path) -> list[Block]:
    found = []
    lines = path.read_text(encoding="utf-8").splitlines()
    opened = None
    for number, line in enumerate(lines, 1):
        if not line.lstrip().startswith("```"):
            continue
        if opened is None:
            opened = number
        else:
            language = lines[opened - 1].strip().removeprefix("```")
            text = "\n".join(lines[opened : number - 1]) + "\n"
            found.append(Block(path, opened + 1, language, text))
            opened = None
    assert opened is None, f"{path}:{opened}: the fence is never closed"
    return found


ALL_BLOCKS = [block for path in documents() for block in blocks(path)]


def names(items: list) -> list[str]:
    paths = (item.path if isinstance(item, Block) else item for item in items)
    labels = [str(path.relative_to(ROOT)) for path in paths]
    numbers = [f":{item.line}" if isinstance(item, Block) else "" for item in items]
    return [label + number for label, number in zip(labels, numbers, strict=True)]


def test_every_fence_names_a_known_language() -> None:
    unknown = [b for b in ALL_BLOCKS if b.language not in LANGUAGES]
    assert not unknown, names(unknown)


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that looks like the repository's root, can be written to, and has a meeting."""
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name not in ("exp", "demo", "build", "dist"):
            (tmp_path / entry.name).symlink_to(entry)
    demo = ROOT / "recipes" / "demo"
    waveform, sample_rate = soundfile.read(demo / "conversation.flac")
    soundfile.write(tmp_path / "meeting.wav", waveform, sample_rate)
    (turns,) = read_rttm(demo / "conversation.rttm").values()
    write_rttm(tmp_path / "meeting.rttm", {"meeting": turns})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


RUNNABLE = [
    path
    for path in documents()
    if any(b.language in ("python", "bash") and not b.is_set_up for b in blocks(path))
]


@pytest.mark.parametrize("path", RUNNABLE, ids=names(RUNNABLE))
def test_blocks_run_from_top_to_bottom(path: Path, workspace: Path) -> None:
    namespace: dict = {"__name__": "__main__"}
    for block in blocks(path):
        where = f"{path.relative_to(ROOT)}:{block.line}"
        if block.language == "python":
            # Blank lines before it, so that a traceback shows the document's own line.
            code = compile("\n" * (block.line - 1) + block.text, str(path), "exec")
            exec(code, namespace)
        elif block.language == "bash" and not block.is_set_up:
            commands = [c for c in block.commands if c.startswith(SET_UP)]
            assert not commands, f"{where}: set-up and other commands in one block"
            done = run_shell(block.text, workspace)
            assert done.returncode == 0, f"{where}: {block.text}\n{done.stdout}{done.stderr}"


def run_shell(text: str, folder: Path) -> subprocess.CompletedProcess:
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": binaries}
    command = ["bash", "-euo", "pipefail", "-c", text]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_text_hides_no_commands() -> None:
    hidden = [
        block
        for block in ALL_BLOCKS
        if block.language == "text"
        and any(c.startswith((*SET_UP, "diarize ", "$ ")) for c in block.commands)
    ]
    assert not hidden, names(hidden)


NOT_RUN = [(b, c) for b in ALL_BLOCKS if b.is_set_up or b.language == "console" for c in b.commands]


@pytest.mark.parametrize(("block", "command"), NOT_RUN, ids=names([block for block, _ in NOT_RUN]))
def test_command_that_is_not_run_names_what_exists(block: Block, command: str) -> None:
    if block.is_set_up:
        assert command.startswith(SET_UP), "set-up and other commands in one block"
    words = shlex.split(command)
    while re.match(r"\w+=", words[0]):  # of the environment
        words.pop(0)
    assert all((ROOT / word).exists() for word in words if word.startswith(("conf/", "recipes/")))
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        asked = [word for word in words[1:] if "=" not in word]
        assert set(asked) <= set(targets)
    elif Path(words[0]).name == "diarize":
        check_arguments(words[1:])
    elif words[0].startswith("recipes/"):
        assert os.access(ROOT / words[0], os.X_OK)
    elif words[0] == "pip":
        setup_cfg = configparser.ConfigParser()
        setup_cfg.read(ROOT / "setup.cfg")
        asked = {name for group in re.findall(r"\[(.*?)\]", command) for name in group.split(",")}
        assert asked <= set(setup_cfg["options.extras_require"])


def check_arguments(words: list[str]) -> None:
    """See that ``diarize`` would take them; what follows a pipe or a redirection is the shell's."""
    ends = (n for n, word in enumerate(words) if re.match(r"[|&;]|\d?[<>]", word))
    _parser().parse_args(words[: next(ends, len(words))])


def test_arguments_that_diarize_would_not_take() -> None:
    check_arguments(["score", "ref.jsonl", "sys", "--collar", "0.25", "|", "tail", "-n", "1"])
    check_arguments(["manifest", "a.wav", ">", "m.jsonl"])
    for wrong in (["paint"], ["score", "ref", "sys", "--colar", "1"], ["score", "ref"]):
        with pytest.raises(SystemExit):
            check_arguments(wrong)


LINKS = [
    (path, link)
    for path in documents()
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8"))
    if not link.startswith(("http://", "https://", "mailto:"))
]


@pytest.mark.parametrize(("path", "link"), LINKS, ids=[f"{p.name}-{link}" for p, link in LINKS])
def test_link_leads_to_a_file(path: Path, link: str) -> None:
    assert (path.parent / link).exists()
