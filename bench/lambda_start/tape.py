"""AWS on loopback, in two ways: moto answers and is taped; then the tape answers, at once.

So a function can be started as often as wanted from the very same state, and no time of moto's own is in what is measured.
"""

import json
import re
import threading
from collections import Counter, defaultdict
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from botocore.awsrequest import AWSPreparedRequest
from botocore.compat import HTTPHeaders
from moto.core.botocore_stubber import BotocoreStubber

from bench.lambda_start.runtime_api import QuietServer

REGION = "us-east-1"
_CREDENTIAL = re.compile(r"Credential=[^/]+/\d+/[^/]+/([^/]+)/aws4_request")
#: What belongs to a connection and not to an answer (RFC 9110, 7.6.1), and what is reckoned anew.
_OF_THE_WIRE = {"connection", "transfer-encoding", "content-length", "date", "server", "keep-alive"}

Answer = tuple[int, dict[str, str], bytes]


class Tape:
    """``call_of`` names a call; equal calls are answered in the order in which they were taped, the last answer again and again."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = defaultdict(list)
        self.unknown: list[str] = []
        self.taping = True
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._moto = BotocoreStubber()
        self._server = QuietServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def begin(self, *, taping: bool) -> None:
        """From here on tape anew, or play from the beginning."""
        with self._lock:
            self.taping = taping
            self._asked.clear()
            if taping:
                self.answers.clear()

    @property
    def calls(self) -> Counter[str]:
        """Calls since ``begin``, by service and operation."""
        return Counter({name: count for call, count in self._asked.items() for name in [call.partition(" ")[0]]})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> Answer:
        service = service_of(headers)
        call = call_of(service, method, path, headers, body)
        with self._lock:
            place = self._asked[call]
            self._asked[call] += 1
            if self.taping:
                self.answers[call].append(self._from_moto(service, method, path, headers, body))
            known = self.answers.get(call)
            if not known:
                self.unknown.append(call)
                return 500, {}, b""
            return known[min(place, len(known) - 1)]

    def _from_moto(self, service: str, method: str, path: str, headers: Any, body: bytes) -> Answer:
        kept = HTTPHeaders()
        for name, value in headers.items():
            if name.lower() not in ("host", "connection"):
                kept[name] = value
        host = f"{service}.{REGION}.amazonaws.com"
        kept["Host"] = host
        request = AWSPreparedRequest(method=method, url=f"https://{host}{path}", headers=kept, body=body, stream_output=False)
        found = self._moto.process_request(request)
        if found is None:
            return 501, {}, b"moto does not know this call"
        status, answered, text = found
        return int(status), {name: str(value) for name, value in dict(answered).items()}, text.encode() if isinstance(text, str) else text

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        tape = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body of an answer in one piece: in two, the second waits for the first one's receipt, some 40 ms.
            disable_nagle_algorithm = True
            wbufsize = -1

            def handle_expect_100(self) -> bool:
                # S3 puts wait for this word, a second at most, before they send their body.
                super().handle_expect_100()
                self.wfile.flush()
                return True

            def answered(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status, headers, text = tape.answer(self.command, self.path, self.headers, body)
                self.send_response(status)
                for name, value in headers.items():
                    if name.lower() not in _OF_THE_WIRE:
                        self.send_header(name, value)
                length = headers.get("Content-Length", headers.get("content-length", "0")) if self.command == "HEAD" else str(len(text))
                self.send_header("Content-Length", length)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(text)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answered

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


def service_of(headers: Any) -> str:
    found = _CREDENTIAL.search(headers.get("Authorization", ""))
    return found[1] if found else "unsigned"


def call_of(service: str, method: str, path: str, headers: Any, body: bytes) -> str:
    """``service.operation subject``: what tells calls apart that must be answered differently."""
    target = headers.get("X-Amz-Target", "")
    if target:
        asked = json.loads(body)
        subject = {name: asked[name] for name in ("Key", "IndexName", "Name", "KeyConditionExpression") if name in asked}
        return f"{service}.{target.rpartition('.')[2]} {json.dumps(subject, sort_keys=True)}"
    if service in ("ec2", "sns"):
        asked = parse_qs(body.decode())
        filters = sorted(f"{name}={value[0]}" for name, value in asked.items() if name.startswith(("Filter", "InstanceId")))
        return f"{service}.{asked['Action'][0]} {' '.join(filters)}".rstrip()
    split = urlsplit(path)
    return f"{service}.{method} {split.path}?{split.query}"
