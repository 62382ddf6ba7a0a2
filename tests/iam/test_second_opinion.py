"""Another simulator's answers, where it is at hand: npm's @cloud-copilot/iam-simulate (AGPL: run as a program, never linked or shipped).

``npm install @cloud-copilot/iam-simulate@0.1.173`` in a folder of its own; then DROPFORGE_IAM_SIMULATE=FOLDER pytest tests/iam/test_second_opinion.py
"""

import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from dropforge.local.iam.policies import Request, Statement
from tests.iam.hearing import Hearing
from tests.iam.matrix import ALL, WITH_GITHUB
from tests.iam.site import ACCOUNT, Site, the_site
from tests.iam.test_matrix import ROLES, requests_of

FOLDER = os.environ.get("DROPFORGE_IAM_SIMULATE", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="no folder with iam-simulate is named by DROPFORGE_IAM_SIMULATE")
SCRIPT = Path(__file__).parent / "second_opinion.mjs"


def document(statements: Iterable[Statement]) -> dict[str, Any]:
    """The policy again as AWS writes it."""
    return {"Version": "2012-10-17", "Statement": [_written(one) for one in statements]}


def _written(one: Statement) -> dict[str, Any]:
    parts = {"Action": one.actions, "NotAction": one.but_actions, "Resource": one.resources, "NotResource": one.but_resources}
    written = {"Effect": "Allow" if one.allows else "Deny"} | {name: list(values) for name, values in parts.items() if values}
    return written | ({"Condition": one.condition} if one.condition else {}) | ({"Principal": one.principal} if one.principal is not None else {})


def opinions(site: Site, asked: list[tuple[str, Request]]) -> list[dict[str, Any]]:
    """Of every request of a role: allowed, and the keys that AWS does not know for that action and resource."""
    policies: dict[str, Any] = {}
    cases = []
    for name, request in asked:
        role, attached = site.roles[name], site.policy_of(request.resource)
        policies[name] = document(role.statements)
        if attached:
            policies[attached[0].holder] = document(attached)
        if role.boundary is not None:
            policies["Boundary"] = document(role.boundary)
        cases.append(
            {
                "principal": f"arn:aws:sts::{ACCOUNT}:assumed-role/{role.arn.rpartition('/')[2]}/session",
                "action": request.action,
                "resource": request.resource.replace("/*", "/x"),
                "account": ACCOUNT,
                "context": {key: list(value) if isinstance(value, tuple) else value for key, value in request.context.items()},
                "identity": name,
                "attached": attached[0].holder if attached else None,
                "boundary": "Boundary" if role.boundary is not None else None,
            }
        )
    question = json.dumps({"policies": policies, "cases": cases})
    told = subprocess.run(["node", str(SCRIPT)], input=question, capture_output=True, text=True, cwd=FOLDER, check=True)
    answers: list[dict[str, Any]] = json.loads(told.stdout)
    return answers


def _compared(asked: list[tuple[str, Request]]) -> list[str]:
    site = the_site()
    different = []
    for (role, request), opinion in zip(asked, opinions(site, asked), strict=True):
        ours = site.decide(role, request)
        # An error: AWS knows no such resource for the action, and so never asks for it.
        if opinion.get("allowed", False) is not ours.allowed:
            different.append(f"{role}: {request.action} on {request.resource}: {ours.reason}, but {opinion}")
    return different


def test_it_answers_every_row_of_the_matrix_alike() -> None:
    asked = [(role, request) for row in ALL + WITH_GITHUB for role in ROLES.get(row.who, ())[:1] for request in requests_of(row, the_site())]
    assert len(asked) > 300
    assert _compared(asked) == []


def test_it_answers_every_request_that_was_heard_alike(hearing: Hearing) -> None:
    asked = [(who, request) for who, request in hearing.heard if who in the_site().roles]
    assert _compared(asked[::7]) == []
