"""Hears the AWS calls of a run, gives each to the role that made it, and asks IAM about it on the spot."""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import FrameType
from typing import Any

import botocore.session
from botocore import xform_name

from dropforge.local.iam.policies import Decision, Request
from tests.iam.calls import World, asked
from tests.iam.site import ACCOUNT, EC2, ROLE_ID, Site

DOORS = "control_plane.handlers."
#: Whose policies count for a call that comes through no door: what all driving functions may do is the same (ADR 4).
ANY_DRIVER = "InterruptionRole"


@dataclass
class Hearing:
    """``heard``: IAM's answer for every request of every role (or service, as itself), each asked once."""

    site: Site
    heard: dict[tuple[str, Request], Decision] = field(default_factory=dict)

    def note(self, role: str, requests: Iterable[Request]) -> None:
        for request in requests:
            if (role, request) not in self.heard:
                self.heard[role, request] = self.site.decide(role, request)

    def note_service(self, service: str, request: Request) -> None:
        """A service of AWS asks as itself."""
        self.heard[service, request] = self.site.decide_for({"Service": service}, request)

    def again(self, site: Site) -> "Hearing":
        """The same requests under other policies."""
        other = Hearing(site)
        for who, request in self.heard:
            if who in site.roles:
                other.note(who, [request])
            else:
                other.note_service(who, request)
        return other

    @property
    def refusals(self) -> list[str]:
        return [f"{role}: {request.action} on {request.resource}: {found.reason}" for (role, request), found in self.heard.items() if not found.allowed]


Listener = Callable[[str, str, Mapping[str, Any]], None]


def as_function(hearing: Hearing, world: World, names: Mapping[str, str]) -> Listener:
    """Hears calls of functions. ``names``: the run's names for tables, buckets, ... by those of the site."""

    def hear(service: str, operation: str, params: Mapping[str, Any]) -> None:
        role = role_of_the_door() or ANY_DRIVER
        hearing.note(role, asked(service, operation, renamed(params, names), world, {"aws:userid": f"AROA:{role}"}))

    return hear


def as_instance(hearing: Hearing, world: World, names: Mapping[str, str], instance_id: str, role_id: str) -> Listener:
    """Hears calls of one instance; its credentials come through IMDSv2."""
    caller = instance_keys(instance_id, role_id)
    return lambda service, operation, params: hearing.note("InstanceRole", asked(service, operation, renamed(params, names), world, caller))


def instance_keys(instance_id: str, role_id: str = ROLE_ID) -> dict[str, str]:
    """EC2 guide, "Instance metadata condition keys"; IAM guide, "Policy variables" for ``aws:userid``."""
    return {
        "aws:userid": f"{role_id}:{instance_id}",
        "ec2:RoleDelivery": "2.0",
        "ec2:SourceInstanceARN": f"{EC2}:instance/{instance_id}",
        "aws:ResourceAccount": ACCOUNT,
    }


def role_of_the_door() -> str | None:
    """The role of the function whose handler is at work: the nearest door up the stack. None where no door is."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith(DOORS) and (door := module.removeprefix(DOORS)) not in ("door", "rooms"):
            return "".join(part.title() for part in door.split("_")) + "Role"
        frame = frame.f_back
    return None


def renamed(value: Any, names: Mapping[str, str]) -> Any:
    """The value with every text that is a name of the run as the site's name."""
    if isinstance(value, str):
        return names.get(value, value)
    if isinstance(value, Mapping):
        return {key: renamed(item, names) for key, item in value.items()}
    return [renamed(item, names) for item in value] if isinstance(value, list | tuple) else value


class Heard:
    """A client in memory whose calls are told to a listener before they are made."""

    def __init__(self, client: Any, service: str, listener: Listener) -> None:
        self._client, self._service, self._listener = client, service, listener

    def __getattr__(self, name: str) -> Any:
        if name == "get_paginator":
            return lambda operation: _HeardPages(self._client.get_paginator(operation), self._service, operation, self._listener)
        method = getattr(self._client, name)

        def call(**params: Any) -> Any:
            self._listener(self._service, operation_of(self._service, name), params)
            return method(**params)

        return call


class _HeardPages:
    def __init__(self, pages: Any, service: str, operation: str, listener: Listener) -> None:
        self._pages, self._service, self._operation, self._listener = pages, service, operation_of(service, operation), listener

    def paginate(self, **params: Any) -> Iterator[Any]:
        self._listener(self._service, self._operation, {key: value for key, value in params.items() if key != "PaginationConfig"})
        yield from self._pages.paginate(**params)


@cache
def _operations(service: str) -> dict[str, str]:
    return {xform_name(name): name for name in botocore.session.get_session().get_service_model(service).operation_names}


def operation_of(service: str, method: str) -> str:
    """botocore's operation behind a client's method."""
    return _operations(service)[method]
