"""One page with everything in it: style, script, sessions and their sound; it asks no network."""

import base64
import hashlib
import html
import json
from pathlib import Path
from typing import Any, BinaryIO

BUNDLE = Path(__file__).parent / "bundle"
"""What `make page` builds of ``web/``."""


class PageWriter:
    """Writes a page piece by piece, so that no more than one session is held.

    Whatever comes from files (names, times) stands in blocks of JSON in which no ``<`` occurs, so
    that nothing in them can end the block; the script puts it on the page as text. A content
    security policy lets the browser run and apply only what was shipped, and fetch nothing.
    """

    def __init__(self, file: BinaryIO, title: str) -> None:
        self._file = file
        script, style, body = (_bundled(name) for name in ("page.js", "page.css", "page.html"))
        policy = (
            f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
            "media-src blob:; base-uri 'none'; form-action 'none'"
        )
        self._script = script
        self._write(
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{html.escape(title)} · diarize view</title>\n<style>{style}</style>\n"
            f"</head>\n<body>\n{body}"
        )

    def add_session(self, number: int, scene: dict[str, Any], ogg: bytes | None) -> None:
        """A session, by its place in the list of `close`."""
        self._block(f"session-{number}", scene)
        if ogg is not None:
            self._write(f'<script type="text/plain" id="sound-{number}">')
            self._file.write(base64.b64encode(ogg))
            self._write("</script>\n")

    def close(self, page: dict[str, Any]) -> None:
        """What stands above the sessions and in their list, and the script that shows it all."""
        self._block("page", page)
        self._write(f"<script>{self._script}</script>\n</body>\n</html>\n")

    def _block(self, name: str, values: dict[str, Any]) -> None:
        text = json.dumps(values, allow_nan=False, separators=(",", ":"))
        self._write(f'<script type="application/json" id="{name}">{_harmless(text)}</script>\n')

    def _write(self, text: str) -> None:
        self._file.write(text.encode("utf-8", "replace"))


def _bundled(name: str) -> str:
    return (BUNDLE / name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")


def _harmless(text: str) -> str:
    """JSON that means the same to a reader of JSON, and nothing to a reader of HTML."""
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
