"""A job as a run of MLflow, by its REST API 2.0 (mlflow.org, "REST API"): no library needed.

One run a job, however many attempts: it is found again by a tag. Nothing that is raised here holds the credentials.
"""

import base64
import http.client
import json
import ssl
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from agent.tracking import Job, Point, TrackingFailed

API = "/api/2.0/mlflow"
JOB_TAG = "dropforge.job_id"
TIMEOUT_S = 8
#: Of one log-batch, MLflow takes so many metrics.
BATCH = 1000
MAX_ANSWER_BYTES = 4 * 1024 * 1024
_STATUSES = {"completed": "FINISHED", "failed": "FAILED", "stopped": "KILLED"}


class MlflowRun:
    """``value``: ``https://HOST[/PATH] TOKEN`` or ``... USER:PASSWORD``, as the parameter holds it. Raises TrackingFailed."""

    def __init__(self, value: str, experiment: str, job: Job) -> None:
        address, _, credentials = value.strip().partition(" ")
        parts = urlsplit(address)
        # Without TLS only on this very machine: a tunnel, or a test.
        if not parts.hostname or (parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname == "127.0.0.1")):
            raise TrackingFailed("the parameter must hold https://HOST/PATH, and behind a space a token or USER:PASSWORD")
        self._parts, self._headers = parts, {"Content-Type": "application/json"} | _authorization(credentials.strip())
        self._run_id = self._open(experiment, job)

    def log(self, points: Sequence[Point]) -> None:
        metrics = [
            {"key": name, "value": value, "timestamp": int(point.at.timestamp() * 1000), "step": point.step}
            for point in points
            for name, value in point.values.items()
        ]
        for start in range(0, len(metrics), BATCH):
            self._post("/runs/log-batch", {"run_id": self._run_id, "metrics": metrics[start : start + BATCH]})

    def end(self, outcome: str, at_ms: int) -> None:
        self._post("/runs/update", {"run_id": self._run_id, "status": _STATUSES[outcome], "end_time": at_ms})

    def _open(self, experiment: str, job: Job) -> str:
        experiment_id = self._experiment(experiment)
        found = self._post("/runs/search", {"experiment_ids": [experiment_id], "filter": f"tags.`{JOB_TAG}` = '{job.job_id}'", "max_results": 1})
        if runs := found.get("runs"):
            run_id = str(runs[0]["info"]["run_id"])
            self._post("/runs/update", {"run_id": run_id, "status": "RUNNING"})
            return run_id
        tags = [{"key": JOB_TAG, "value": job.job_id}]
        made = self._post("/runs/create", {"experiment_id": experiment_id, "run_name": job.name, "start_time": job.began_ms, "tags": tags})
        run_id = str(made["run"]["info"]["run_id"])
        self._post("/runs/log-batch", {"run_id": run_id, "params": [{"key": key, "value": value} for key, value in job.settings.items()]})
        return run_id

    def _experiment(self, name: str) -> str:
        found = self._call("GET", f"/experiments/get-by-name?experiment_name={quote(name, safe='')}", None, absent_is_none=True)
        if found is None:
            return str(self._post("/experiments/create", {"name": name})["experiment_id"])
        return str(found["experiment"]["experiment_id"])

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self._call("POST", path, body)
        assert answer is not None
        return answer

    def _call(self, method: str, path: str, body: dict[str, Any] | None, *, absent_is_none: bool = False) -> dict[str, Any] | None:
        """Follows no redirect: credentials for one host go to no other."""
        parts = self._parts
        assert parts.hostname is not None
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            connection = http.client.HTTPSConnection(parts.hostname, parts.port or 443, timeout=TIMEOUT_S, context=ssl.create_default_context())
        else:
            connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=TIMEOUT_S)
        try:
            connection.request(method, parts.path.rstrip("/") + API + path, None if body is None else json.dumps(body), self._headers)
            response = connection.getresponse()
            status, text = response.status, response.read(MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise TrackingFailed(f"{parts.hostname} was not reached: {type(error).__name__}") from None
        finally:
            connection.close()
        if status == 404 and absent_is_none:
            return None
        if status != 200:
            raise TrackingFailed(f"{parts.hostname} answered {status} to {path.partition('?')[0]}")
        try:
            answer = json.loads(text or b"{}")
        except ValueError:
            raise TrackingFailed(f"{parts.hostname} answered no JSON to {path.partition('?')[0]}; is it an MLflow server?") from None
        return answer if isinstance(answer, dict) else {}


def _authorization(credentials: str) -> dict[str, str]:
    if not credentials:
        return {}
    if ":" in credentials:
        return {"Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"}
    return {"Authorization": f"Bearer {credentials}"}
