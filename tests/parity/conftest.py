"""NIST's md-eval-22, where it can be had without network."""

import os
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

DEBIAN = Path("/usr/lib/sctk/bin/md-eval.pl")


@pytest.fixture
def md_eval_22(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The script, on the PATH for meeteval to find, or made from Debian's package sctk.

    The latter prints two decimals, of which tests/golden/der/README.md makes more.
    """
    if shutil.which("perl") is None:
        pytest.skip("perl is not installed")
    if DEBIAN.exists():
        script = tmp_path / "md-eval-22.pl"
        script.write_text(DEBIAN.read_text().replace("=%10.2f secs", "=%.9f secs"))
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        return script
    known = [shutil.which("md-eval-22.pl")]
    if spec := find_spec("meeteval"):
        known.append(str(Path(str(spec.origin)).parent / "der" / "md-eval-22.pl"))
    for path in known:
        if path and Path(path).exists():
            return Path(path)
    pytest.skip("md-eval-22.pl is not on the PATH; Debian's sctk has it")
