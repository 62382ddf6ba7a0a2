"""The private path ``/_dropforge/<verb>`` of the emulator: interrupt, refuse, limit, look. For ``dropforge local`` and tests.

Only who can read the state folder knows the token; instances do not. A request is a JSON object, an answer as well; an
error is ``{"error": "<sentence>"}`` with status 400.
"""

import hmac
import json
import threading
from collections.abc import Callable
from typing import Any

from dropforge.local.plugin.machines import HOST_FAILURE, Machine, Machines
from dropforge.local.plugin.market import Pool, SpotMarket
from dropforge.local.plugin.settings import Settings

PREFIX = "/_dropforge/"
TOKEN_HEADER = b"x-dropforge-token"


class ControlError(Exception):
    """A sentence for the user."""


class Control:
    def __init__(self, settings: Settings, machines: Machines, market: SpotMarket) -> None:
        self._settings, self._machines, self._market = settings, machines, market
        self._verbs: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "cancel": self._cancel,
            "capacity": self._capacity,
            "fail": self._fail,
            "instances": self._instances,
            "interrupt": self._interrupt,
            "price": self._price,
            "quota": self._quota,
            "rebalance": self._rebalance,
            "refuse": self._refuse,
        }

    def around(self, app: Any) -> Any:
        """An ASGI application that answers the private path itself and leaves the rest to ``app``."""

        async def application(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] != "http" or not scope["path"].startswith(PREFIX):
                await app(scope, receive, send)
                return
            body = b""
            while True:
                message = await receive()
                body += message.get("body", b"")
                if not message.get("more_body"):
                    break
            status, answer = self.answer(scope["path"].removeprefix(PREFIX), dict(scope["headers"]).get(TOKEN_HEADER, b""), body)
            await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})
            await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

        return application

    def answer(self, verb: str, token: bytes, body: bytes) -> tuple[int, dict[str, Any]]:
        if not hmac.compare_digest(token, self._settings.control_token.encode()):
            return 403, {"error": "This path wants the token of the state folder's settings file."}
        act = self._verbs.get(verb)
        if act is None:
            return 404, {"error": f"There is no {verb!r} here; there is {', '.join(sorted(self._verbs))}."}
        try:
            return 200, act(json.loads(body or b"{}"))
        except ControlError as problem:
            return 400, {"error": str(problem)}
        except (KeyError, TypeError, ValueError) as problem:
            return 400, {"error": f"{verb}: the request is not usable ({type(problem).__name__}: {problem})."}

    def _interrupt(self, request: dict[str, Any]) -> dict[str, Any]:
        machine = self._live(request)
        if machine.launch.market != "spot":
            raise ControlError(f"{machine.instance_id} is on-demand: EC2 interrupts spot instances only. Use `fail` for a failing host.")
        notice_s = float(request.get("notice_s") or self._settings.notice_s)
        return {"ends_at": self._machines.interrupt(machine, notice_s).isoformat(), "notice_s": notice_s}

    def _rebalance(self, request: dict[str, Any]) -> dict[str, Any]:
        self._machines.recommend_rebalance(self._live(request))
        return {}

    def _cancel(self, request: dict[str, Any]) -> dict[str, Any]:
        self._machines.cancel_notice(self._live(request))
        return {}

    def _fail(self, request: dict[str, Any]) -> dict[str, Any]:
        machine = self._live(request)
        # In a thread: the answer does not wait for what the events set off.
        threading.Thread(target=self._machines.end, args=(machine, HOST_FAILURE), kwargs={"abruptly": True}, daemon=True).start()
        return {}

    def _capacity(self, request: dict[str, Any]) -> dict[str, Any]:
        _put(self._market.capacity, _pool(request), request["count"], int)
        return {}

    def _price(self, request: dict[str, Any]) -> dict[str, Any]:
        _put(self._market.prices, _pool(request), request["usd_per_h"], float)
        return {}

    def _refuse(self, request: dict[str, Any]) -> dict[str, Any]:
        self._market.refusals[_pool(request)] = (int(request["count"]), str(request.get("code") or "InsufficientInstanceCapacity"))
        return {}

    def _quota(self, request: dict[str, Any]) -> dict[str, Any]:
        _put(self._market.quota_vcpus, (str(request.get("region") or "*"), str(request["market"])), request["vcpus"], int)
        return {}

    def _instances(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"instances": [_view(machine) for machine in self._machines.all()]}

    def _live(self, request: dict[str, Any]) -> Machine:
        instance_id = str(request["instance_id"])
        machine = self._machines.find(instance_id)
        if machine is None:
            raise ControlError(f"There is no instance {instance_id}. `dropforge local status` lists them.")
        if machine.state not in ("pending", "running"):
            raise ControlError(f"{instance_id} is {machine.state} already.")
        return machine


def _pool(request: dict[str, Any]) -> Pool:
    return Pool(str(request.get("instance_type") or "*"), str(request.get("zone") or "*"))


def _put(table: dict[Any, Any], key: Any, value: Any, of_type: Callable[[Any], Any]) -> None:
    """None lifts the limit."""
    if value is None:
        table.pop(key, None)
    else:
        table[key] = of_type(value)


def _view(machine: Machine) -> dict[str, Any]:
    return {
        "instance_id": machine.instance_id,
        "instance_type": machine.launch.pool.instance_type,
        "zone": machine.launch.pool.zone,
        "market": machine.launch.market,
        "state": machine.state,
        "reason": machine.reason[0] if machine.reason else None,
        "launched_at": machine.launched_at.isoformat(),
        "notice_at": machine.notice_at.isoformat() if machine.notice_at else None,
        "metadata_url": machine.metadata_server.url if machine.metadata_server and machine.live else None,
    }
