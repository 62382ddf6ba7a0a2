"""MLflow's REST API 2.0 on loopback, as far as a run needs it. Held to the real server: tests/agent/test_tracking.py, where one is at hand."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

API = "/api/2.0/mlflow"


@dataclass
class Recorded:
    experiment: str
    name: str
    tags: dict[str, str]
    status: str = "RUNNING"
    params: dict[str, str] = field(default_factory=dict)
    metrics: list[dict[str, Any]] = field(default_factory=list)

    def curve(self, key: str) -> dict[int, float]:
        """The value of each step."""
        return {metric["step"]: metric["value"] for metric in self.metrics if metric["key"] == key}


class MlflowServer(ThreadingHTTPServer):
    """``runs`` by id. ``away``: every call is answered 503. ``seen``: each call's path and Authorization."""

    runs: dict[str, Recorded]
    experiments: dict[str, str]
    seen: list[tuple[str, str]]
    away = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def answer(self, path: str, query: dict[str, list[str]], body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        match path:
            case "/experiments/get-by-name":
                name = query["experiment_name"][0]
                if name not in self.experiments:
                    return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"no {name}"}
                return 200, {"experiment": {"experiment_id": self.experiments[name], "name": name}}
            case "/experiments/create":
                self.experiments[body["name"]] = str(len(self.experiments) + 1)
                return 200, {"experiment_id": self.experiments[body["name"]]}
            case "/runs/search":
                key, value = re.fullmatch(r"tags\.`(.+)` = '(.+)'", body["filter"]).groups()  # type: ignore[union-attr]  # another filter is an error
                of = [run_id for run_id, run in self.runs.items() if run.tags.get(key) == value and self.experiments[run.experiment] in body["experiment_ids"]]
                return 200, {"runs": [{"info": {"run_id": run_id}} for run_id in of[: body["max_results"]]]} if of else {}
            case "/runs/create":
                (experiment,) = [name for name, number in self.experiments.items() if number == body["experiment_id"]]
                run_id = f"run-{len(self.runs) + 1}"
                self.runs[run_id] = Recorded(experiment, body["run_name"], {tag["key"]: tag["value"] for tag in body["tags"]})
                return 200, {"run": {"info": {"run_id": run_id}}}
            case "/runs/log-batch":
                run = self.runs[body["run_id"]]
                if len(body.get("metrics", [])) > 1000 or len(body.get("params", [])) > 100:
                    return 400, {"error_code": "INVALID_PARAMETER_VALUE"}
                run.metrics += body.get("metrics", [])
                run.params |= {param["key"]: param["value"] for param in body.get("params", [])}
                return 200, {}
            case "/runs/update":
                self.runs[body["run_id"]].status = body["status"]
                return 200, {"run_info": {}}
        return 404, {"error_code": "ENDPOINT_NOT_FOUND"}


class _Handler(BaseHTTPRequestHandler):
    server: MlflowServer

    def do_GET(self) -> None:
        self._serve({})

    def do_POST(self) -> None:
        self._serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _serve(self, body: dict[str, Any]) -> None:
        parts = urlsplit(self.path)
        self.server.seen.append((parts.path, self.headers.get("Authorization", "")))
        path = parts.path.partition(API)[2]
        status, answer = (503, {}) if self.server.away else self.server.answer(path, parse_qs(parts.query), body)
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args: object) -> None:
        """Tests read what was recorded."""


@contextmanager
def serving() -> Iterator[MlflowServer]:
    with MlflowServer(("127.0.0.1", 0), _Handler) as server:
        server.runs, server.experiments, server.seen = {}, {}, []
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
