"""Between a session and AWS: what was asked is noted, and some questions get an answer of the test's own, held to AWS's model of it."""

from collections.abc import Callable
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse
from botocore.model import OperationModel
from botocore.validate import ParamValidator

Answer = dict[str, Any] | Callable[[dict[str, Any]], dict[str, Any] | None]


class Answers:
    """Registers with sessions. ``calls``: (service, operation) of every call, in order; ``requests``: with its parameters."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self._before: dict[str, Callable[[dict[str, Any]], None]] = {}
        self._given: dict[str, Answer] = {}
        self._refused: dict[str, tuple[str, str]] = {}

    def listen_to(self, session: boto3.Session) -> boto3.Session:
        session.events.register("provide-client-params.*.*", self._note)
        session.events.register("before-call.*.*", self._answer)
        return session

    def give(self, operation: str, answer: Answer) -> None:
        """AWS answers so; a function gets the parameters and may leave the question to the real thing with None."""
        self._given[operation] = answer

    def refuse(self, operation: str, code: str, message: str = "as the test wishes") -> None:
        self._refused[operation] = (code, message)

    def leave(self, operation: str) -> None:
        """To the real thing."""
        self._given.pop(operation, None)

    def allow(self, operation: str) -> None:
        self._refused.pop(operation, None)

    def before(self, operation: str, look: Callable[[dict[str, Any]], None]) -> None:
        """Show the test a call's parameters before it is answered, refused or made."""
        self._before[operation] = look

    def forget(self) -> None:
        """As new: nothing noted, nothing answered."""
        self.calls.clear()
        self.requests.clear()
        self._before.clear()
        self._given.clear()
        self._refused.clear()

    def _note(self, params: dict[str, Any], model: OperationModel, **_: Any) -> None:
        self.calls.append((model.service_model.service_name, model.name))
        self.requests.append((model.name, dict(params)))
        if model.name in self._before:
            self._before[model.name](dict(params))

    def _answer(self, model: OperationModel, **_: Any) -> tuple[AWSResponse, dict[str, Any]] | None:
        http = AWSResponse("https://answer.test", 200, {}, None)
        metadata = {"ResponseMetadata": {"HTTPStatusCode": 200}}
        if model.name in self._refused:
            code, message = self._refused[model.name]
            http.status_code = 400
            return http, {"Error": {"Code": code, "Message": message}} | metadata
        if model.name not in self._given:
            return None
        given = self._given[model.name]
        answer = given(self.requests[-1][1]) if callable(given) else given
        if answer is None:
            return None
        report = ParamValidator().validate(answer, model.output_shape)
        assert not report.has_errors(), f"AWS would never answer {model.name} so: {report.generate_report()}"
        return http, answer | metadata
