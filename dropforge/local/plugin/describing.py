"""DescribeInstances, DescribeInstanceTypeOfferings, DescribeSpotPriceHistory: what EC2 says, filtered and in pages.

An unknown filter is an error here as it is on EC2 (the emulator alone would ignore it and answer with everything).
"""

import base64
import binascii
from collections.abc import Callable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from dropforge.local.plugin import seams
from dropforge.local.plugin.asked import error
from dropforge.local.plugin.machines import Machine, Machines
from dropforge.local.plugin.market import Pool, SpotMarket
from dropforge.local.plugin.query import nest, render
from dropforge.local.plugin.tokens import Response

_FILTERS: dict[str, Callable[[Machine], str]] = {
    "availability-zone": lambda m: m.launch.pool.zone,
    "client-token": lambda m: m.launch.client_token,
    "image-id": lambda m: m.launch.image_id,
    "instance-id": lambda m: m.instance_id,
    "instance-lifecycle": lambda m: "spot" if m.launch.market == "spot" else "",
    "instance-state-code": lambda m: str(m.record["State"]["Code"]),
    "instance-state-name": lambda m: m.state,
    "instance-type": lambda m: m.launch.pool.instance_type,
    "subnet-id": lambda m: m.launch.subnet_id,
}


class Describing:
    """The read actions of one cloud."""

    def __init__(self, machines: Machines, market: SpotMarket) -> None:
        self._machines, self._market = machines, market

    def describe_instances(self, params: dict[str, Any]) -> Response:
        request = nest(params)
        filters = request.get("Filter", [])
        for asked in filters:
            name = asked.get("Name", "")
            if name not in _FILTERS and not name.startswith("tag:") and name not in ("tag-key", "tag-value"):
                return error("InvalidParameterValue", f"The filter '{name}' is invalid")
        shown = {machine.instance_id: machine for machine in self._machines.here()}
        ids = request.get("InstanceId", [])
        for instance_id in ids:
            if instance_id not in shown:
                return error("InvalidInstanceID.NotFound", f"The instance ID '{instance_id}' does not exist")
        found = [m for m in shown.values() if (not ids or m.instance_id in ids) and all(_matches(m, asked) for asked in filters)]
        try:
            page, token = _page(found, request)
        except ValueError:
            return error("InvalidParameterValue", "The NextToken is invalid")
        items = "".join(f"<item>{render(_reservation(m))}<instancesSet>{_instance_xml(m)}</instancesSet></item>" for m in page)
        response: Response = seams.ec2._xml(200, "DescribeInstancesResponse", f"<reservationSet>{items}</reservationSet>{render({'nextToken': token})}")
        return response

    def describe_instance_type_offerings(self, params: dict[str, Any]) -> Response:
        """Every type that can be launched, in every zone that has a subnet: capacity is another question."""
        request = nest(params)
        kind = request.get("LocationType", "region")
        if kind not in ("region", "availability-zone"):
            return error("InvalidParameterValue", f"The local cloud has no locations of type {kind}")
        zones = _zones()
        wanted = {str(asked["Name"]): [str(value) for value in asked["Value"]] for asked in request.get("Filter", [])}
        if unknown := wanted.keys() - {"location", "instance-type"}:
            return error("InvalidParameterValue", f"The filter '{min(unknown)}' is invalid")
        offered = [
            {"instanceType": name, "locationType": kind, "location": location}
            for location in (zones if kind == "availability-zone" else sorted({zone[:-1] for zone in zones}))
            for name in sorted(self._market.types)
        ]
        keys = {"location": "location", "instance-type": "instanceType"}
        found = [each for each in offered if all(any(fnmatchcase(each[keys[name]], value) for value in values) for name, values in wanted.items())]
        response: Response = seams.ec2._xml(200, "DescribeInstanceTypeOfferingsResponse", render({"instanceTypeOfferingSet": found}))
        return response

    def describe_spot_price_history(self, params: dict[str, Any]) -> Response:
        """The price of each pool now: as many entries as types x zones asked for."""
        request = nest(params)
        types = request.get("InstanceType") or sorted(self._market.types)
        only = request.get("AvailabilityZone")
        zones = [only] if only else _zones()
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
        entries = [
            {
                "instanceType": name,
                "productDescription": "Linux/UNIX",
                "spotPrice": f"{self._market.price(Pool(name, zone)):.6f}",
                "timestamp": now,
                "availabilityZone": zone,
            }
            for name in types
            if name in self._market.types
            for zone in zones
        ]
        response: Response = seams.ec2._xml(200, "DescribeSpotPriceHistoryResponse", render({"spotPriceHistorySet": entries}))
        return response


def _zones() -> list[str]:
    """Those that have a subnet."""
    return sorted({subnet["AvailabilityZone"] for subnet in seams.ec2._subnets.values()})


def _matches(machine: Machine, asked: dict[str, Any]) -> bool:
    name, values = asked["Name"], asked.get("Value", [])
    if name in _FILTERS:
        return any(fnmatchcase(_FILTERS[name](machine), str(value)) for value in values)
    return bool(seams.ec2._resource_matches_tag_filters(machine.instance_id, {name: values}))


def _page(found: list[Machine], request: dict[str, Any]) -> tuple[list[Machine], str | None]:
    token = request.get("NextToken")
    try:
        start = int(base64.b64decode(token, validate=True)) if token else 0
    except binascii.Error as broken:
        raise ValueError(token) from broken
    end = start + int(request.get("MaxResults") or 1000)
    return found[start:end], base64.b64encode(str(end).encode()).decode() if end < len(found) else None


def _reservation(machine: Machine) -> dict[str, Any]:
    return {"reservationId": f"r-{machine.instance_id[2:]}", "ownerId": machine.scope[0], "groupSet": []}


def _instance_xml(machine: Machine) -> str:
    """The emulator's own rendering, and what it leaves out."""
    own = str(seams.ec2._instance_xml(machine.record)).rstrip()
    more: dict[str, Any] = {"clientToken": machine.launch.client_token}
    if machine.launch.market == "spot":
        more |= {"instanceLifecycle": "spot", "spotInstanceRequestId": f"sir-{machine.instance_id[2:10]}"}
    if machine.reason is not None:
        code, message = machine.reason
        more |= {"stateReason": {"code": code, "message": message}, "reason": message.partition(": ")[2]}
    options = machine.launch.metadata
    more["metadataOptions"] = {"state": "applied"} | {name[0].lower() + name[1:]: value for name, value in options.items()}
    return own.removesuffix("</item>") + render(more) + "</item>"
