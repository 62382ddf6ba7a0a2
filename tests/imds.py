"""An instance metadata service for tests, version 2 only, on a free port of the loopback address.

Facts are attributes, to be changed while it runs. Without a token it answers 401, as EC2 does with ``HttpTokens: required``.
"""

import json
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

TOKEN = "token-of-the-tests"


class FakeImds:
    """``with FakeImds("i-0123456789abcdef0", tags={...}) as imds: ... imds.interrupt(120)``."""

    def __init__(self, instance_id: str, tags: dict[str, str] | None = None) -> None:
        self.instance_id = instance_id
        self.tags = tags or {}
        self.instance_type: str | None = None
        self.interruption: dict[str, str] | str | None = None
        self.rebalance_at: datetime | None = None
        #: Answers with this status to every GET while set.
        self.broken: int | None = None
        #: Tokens given out so far; setting ``token`` makes the ones before it worthless.
        self.token = TOKEN
        self.tokens_given = 0
        self.asked: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=lambda: self._server.serve_forever(poll_interval=0.02), daemon=True)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def interrupt(self, notice_s: float) -> datetime:
        """Give a spot notice for ``notice_s`` seconds from now; EC2 names whole seconds."""
        at = (datetime.now(UTC) + timedelta(seconds=notice_s)).replace(microsecond=0)
        self.interruption = {"action": "terminate", "time": f"{at:%Y-%m-%dT%H:%M:%SZ}"}
        return at

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, path: str) -> str | None:
        path = path.removeprefix("/latest/meta-data/")
        if path == "instance-id":
            return self.instance_id
        if path == "instance-type":
            return self.instance_type
        if path.startswith("tags/instance/"):
            return self.tags.get(path.removeprefix("tags/instance/"))
        if path == "spot/instance-action" and self.interruption is not None:
            return self.interruption if isinstance(self.interruption, str) else json.dumps(self.interruption)
        if path == "events/recommendations/rebalance" and self.rebalance_at is not None:
            return json.dumps({"noticeTime": f"{self.rebalance_at:%Y-%m-%dT%H:%M:%SZ}"})
        if path == "iam/security-credentials/":
            return "instance-role"
        if path == "iam/security-credentials/instance-role":
            later = f"{datetime.now(UTC) + timedelta(hours=6):%Y-%m-%dT%H:%M:%SZ}"
            return json.dumps({"Code": "Success", "AccessKeyId": "testing", "SecretAccessKey": "testing", "Token": "testing", "Expiration": later})
        return None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        imds = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                imds.tokens_given += 1
                self._send(200 if self.path == "/latest/api/token" else 404, imds.token)

            def do_GET(self) -> None:
                imds.asked.append(self.path)
                if self.headers.get("X-aws-ec2-metadata-token") != imds.token:
                    self._send(401, "")
                elif imds.broken is not None:
                    self._send(imds.broken, "")
                else:
                    found = imds._answer(self.path)
                    self._send(404 if found is None else 200, found or "")

            def _send(self, status: int, body: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
                return

        return Handler
