"""A stand-in for Hugging Face on the loopback: what huggingface_hub asks of it, and no more.

It answers ``/api/models/OWNER/NAME[/revision/REVISION]`` and HEAD and GET of
``/OWNER/NAME/resolve/REVISION/FILE``, whole or from a byte on.
"""

import hashlib
import json
import os
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOKEN = "hf_of_a_friend"


@dataclass
class Repository:
    """What is published under one name."""

    files: dict[str, bytes]
    card: dict[str, str] = field(default_factory=dict)
    revisions: tuple[str, ...] = ("main",)
    gated: bool = False
    """Whether only who shows `TOKEN` gets files."""
    breaks_off: bool = False
    """Whether half of a file is sent, and nothing when the rest is asked for."""

    @property
    def commit(self) -> str:
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()


class StandIn(ThreadingHTTPServer):
    """The server, running while the context lasts."""

    daemon_threads = False  # so that server_close waits for them

    def __init__(self, home: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.home = home
        self.published: dict[str, Repository] = {}
        self.asked: list[str] = []
        """Method and path of every request."""
        self.thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def environment(self) -> dict[str, str]:
        """That of a process which takes this server for Hugging Face."""
        own = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HF_", "HUGGING")) and not name.lower().endswith("_proxy")
        }
        endpoint = f"http://127.0.0.1:{self.server_port}"
        return own | {
            "HF_ENDPOINT": endpoint,
            "HF_HOME": str(self.home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }

    def shut(self) -> None:
        """Answer no more."""
        if self.thread.is_alive():
            self.shutdown()
            self.thread.join()
            self.server_close()

    def __enter__(self) -> "StandIn":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shut()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: StandIn

    def do_HEAD(self) -> None:
        self.answer(with_content=False)

    def do_GET(self) -> None:
        self.answer(with_content=True)

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, with_content: bool) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        api, *parts = self.path.lstrip("/").split("/")
        if api == "api":
            parts = parts[1:]
        else:
            parts = [api, *parts]
        repository = self.server.published.get("/".join(parts[:2]))
        revision = parts[3] if len(parts) > 3 else "main"
        if repository is None:
            self.refuse(401, "RepoNotFound")
        elif revision not in (*repository.revisions, repository.commit):
            self.refuse(404, "RevisionNotFound")
        elif api == "api":
            listed = [{"rfilename": name} for name in repository.files]
            about = {"id": "/".join(parts[:2]), "sha": repository.commit, "siblings": listed}
            content = json.dumps(about | {"cardData": repository.card, "tags": []}).encode()
            self.send(200, content, {"Content-Type": "application/json"})
        elif repository.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.refuse(401, "GatedRepo")
        elif (content := repository.files.get("/".join(parts[4:]))) is None:
            self.refuse(404, "EntryNotFound")
        else:
            self.send_file(repository, content, with_content)

    def send_file(self, repository: Repository, content: bytes, with_content: bool) -> None:
        etag = hashlib.sha256(content).hexdigest()
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": repository.commit}
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        if start and repository.breaks_off:
            self.refuse(500, "")
            return
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        rest = content[start:]
        sent = rest[: len(rest) // 2] if repository.breaks_off else rest
        headers["Content-Length"] = str(len(rest))
        self.send(206 if start else 200, sent if with_content else b"", headers)

    def refuse(self, status: int, code: str) -> None:
        self.send(status, b"", {"X-Error-Code": code} if code else {})

    def send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
