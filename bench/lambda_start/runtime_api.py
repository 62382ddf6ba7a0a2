"""Lambda's Runtime API on loopback (Lambda guide, "Using the Lambda runtime API"), for one function process at a time."""

import json
import queue
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

GIVE_UP_AFTER_S = 120


class FunctionFailed(RuntimeError):
    """The function reported an error, ended, or did not answer: nothing that it did is a measurement."""


class QuietServer(ThreadingHTTPServer):
    """A server whose callers may be ended in the middle of a call: that is no news."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class RuntimeApi:
    """Hands out one event at a time and waits for its answer."""

    def __init__(self) -> None:
        self._events: queue.Queue[bytes | None] = queue.Queue()
        self._answers: queue.Queue[tuple[str, bytes]] = queue.Queue()
        self._server = QuietServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_port}"

    def give(self, event: Any) -> None:
        self._events.put(json.dumps(event).encode())

    def answer(self) -> Any:
        """The answer to the event that was given. Raises FunctionFailed."""
        try:
            kind, body = self._answers.get(timeout=GIVE_UP_AFTER_S)
        except queue.Empty:
            raise FunctionFailed(f"no answer within {GIVE_UP_AFTER_S} s") from None
        if kind != "response":
            raise FunctionFailed(f"{kind}: {body.decode(errors='replace')[:2000]}")
        return json.loads(body)

    def close(self) -> None:
        self._events.put(None)
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        events, answers = self._events, self._answers

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body of an answer in one piece: in two, the second waits for the first one's receipt, some 40 ms.
            disable_nagle_algorithm = True
            wbufsize = -1

            def do_GET(self) -> None:
                event = events.get()
                if event is None:
                    self.close_connection = True
                    return
                self.send_response(200)
                for name, value in {
                    "Content-Type": "application/json",
                    "Content-Length": str(len(event)),
                    "Lambda-Runtime-Aws-Request-Id": str(uuid.uuid4()),
                    "Lambda-Runtime-Deadline-Ms": "99999999999999",
                    "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function:bench",
                    "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=0",
                }.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(event)

            def do_POST(self) -> None:
                # .../invocation/<id>/response, .../invocation/<id>/error, .../init/error
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                answers.put((self.path.rpartition("/")[2], body))
                self.send_response(202)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        return Handler
