"""A Hugging Face hub on loopback, as far as ``snapshot_download`` asks one: what a repository holds, and its files (hub HTTP API)."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def fake_hub(kind: str, repository: str, revision: str, files: dict[str, bytes]) -> Iterator[str]:
    """The address of a hub with one repository (``kind``: models or datasets) at one commit."""
    repo = f"/{repository}" if kind == "models" else f"/{kind}/{repository}"
    tree = [{"type": "file", "path": name, "size": len(body), "oid": sha256(body).hexdigest()[:40]} for name, body in files.items()]
    info = {"id": repository, "sha": revision, "siblings": [{"rfilename": name} for name in files], "private": False, "gated": False, "tags": []}

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            name = path.removeprefix(f"{repo}/resolve/{revision}/")
            if path in (f"/api/{kind}/{repository}/revision/{revision}", f"/api/{kind}/{repository}"):
                self._answer(json.dumps(info).encode(), {})
            elif path.startswith(f"/api/{kind}/{repository}/tree/{revision}"):
                self._answer(json.dumps(tree).encode(), {})
            elif path.startswith(repo) and name in files:
                self._answer(files[name], {"ETag": f'"{sha256(files[name]).hexdigest()}"', "X-Repo-Commit": revision})
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        do_HEAD = do_GET

        def _answer(self, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(200)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
