"""Progress on standard error: a bar on a terminal, lines elsewhere, or nothing."""

import pytest

from diarize import progress as module
from diarize.progress import progress


def test_a_log_gets_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 10.0, 31.0, 31.0, 40.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    with progress(600.0, "seconds of audio") as advance:
        for _ in range(3):
            advance(120.0)
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err == "240 of 600 seconds of audio\n"


def test_a_terminal_gets_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.sys.stderr, "isatty", lambda: True)
    with progress(4, "sessions") as advance:
        advance(4)
    captured = capsys.readouterr()
    assert captured.out == "" and "0%" in captured.err and "0/4 sessions" in captured.err


def test_nothing_is_told_unasked(capsys: pytest.CaptureFixture[str]) -> None:
    with progress(4, "sessions", show=False) as advance:
        advance(4)
    assert capsys.readouterr() == ("", "")
