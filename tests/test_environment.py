"""What a run ran on: the package's own commit, or none."""

import subprocess

import pytest

from diarize import environment as module
from diarize.environment import environment


def test_commit_is_that_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        ("ls-files", "environment.py"): "environment.py",
        ("rev-parse", "HEAD"): "abc",
        ("status", "--porcelain", "--untracked-files=no"): " M a.py\n M b.py",
    }
    monkeypatch.setattr(module, "_git", lambda *words: answers[words])
    facts = environment()
    assert (facts["commit"], facts["changed_files"]) == ("abc", [" M a.py", " M b.py"])
    answers[("ls-files", "environment.py")] = ""  # a repository that only surrounds it
    facts = environment()
    assert (facts["commit"], facts["changed_files"]) == ("", [])


def test_environment_is_told_without_git(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*args: object, **kwargs: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", absent)
    assert environment()["commit"] == ""
