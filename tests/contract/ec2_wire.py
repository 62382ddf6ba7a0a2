"""EC2's answers as it writes them, read by botocore's own parser in place of a call to moto: for what moto cannot say.

The XML follows EC2's API reference (CreateFleet, "Error responses") and the answers quoted in the issue threads that the
facts name: aws-node-termination-handler, aws-parallelcluster-node #533, osbuild-composer #4507 and karpenter #8923.
"""

from collections.abc import Callable
from typing import Any
from xml.sax.saxutils import escape

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ReadTimeoutError
from botocore.parsers import create_parser

from control_plane.core.records import Pool

_CLOSED_MESSAGE = "We currently do not have sufficient {type} capacity in the Availability Zone you requested."


def answer_with(ec2: Any, operation: str, body: str, *, status: int = 200) -> None:
    """Answer the operation with this document from now on."""
    ec2.meta.events.register(f"before-call.ec2.{operation}", lambda model, **_: _answer(model, status, body))


def fail_with(ec2: Any, operation: str, code: str, message: str = "EC2's words.", *, status: int = 400) -> None:
    """Answer the operation with an error of this code."""
    errors = f"<Errors><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error></Errors>"
    answer_with(ec2, operation, f"<Response>{errors}<RequestID>ea966190-f9aa-478e-9ede-example</RequestID></Response>", status=status)


def time_out(ec2: Any, operation: str, *, effect: bool) -> None:
    """The next answer never comes; with ``effect`` moto has done the work all the same."""
    event = f"{'after-call' if effect else 'before-call'}.ec2.{operation}"

    def hook(**_: Any) -> None:
        ec2.meta.events.unregister(event, hook)
        raise ReadTimeoutError(endpoint_url="https://ec2.us-east-1.amazonaws.com/")

    ec2.meta.events.register(event, hook)


def requests_of(ec2: Any, operation: str) -> list[dict[str, Any]]:
    """A list that fills with the parameters of each request, as they go over the wire."""
    seen: list[dict[str, Any]] = []
    ec2.meta.events.register_first(f"before-call.ec2.{operation}", lambda params, **_: seen.append(dict(params["body"])))
    return seen


def fleet_xml(*, instances: tuple[tuple[str, Pool], ...] = (), errors: tuple[tuple[str, Pool | None], ...] = (), terse: bool = False) -> str:
    """A CreateFleet answer: (instance id, pool) and (error code, pool). ``terse``: instances name only their type.

    Instances of one pool share an entry, as EC2 writes them.
    """
    by_pool: dict[Pool, list[str]] = {}
    for instance_id, pool in instances:
        by_pool.setdefault(pool, []).append(instance_id)
    return (
        '<CreateFleetResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>f0a1c2d3-example</requestId>'
        "<fleetId>fleet-12a34b55-67cd-8ef9-ba9b-9208dEXAMPLE</fleetId>"
        f"<errorSet>{''.join(_error_item(code, pool) for code, pool in errors)}</errorSet>"
        f"<fleetInstanceSet>{''.join(_instance_item(ids, pool, terse) for pool, ids in by_pool.items())}</fleetInstanceSet>"
        "</CreateFleetResponse>"
    )


def price_xml(*prices: tuple[str, str]) -> str:
    """A DescribeSpotPriceHistory answer of (timestamp, price)."""
    items = "".join(
        f"<item><instanceType>g5.xlarge</instanceType><productDescription>Linux/UNIX</productDescription><spotPrice>{price}</spotPrice>"
        f"<timestamp>{at}</timestamp><availabilityZone>us-east-1a</availabilityZone></item>"
        for at, price in prices
    )
    return f'<DescribeSpotPriceHistoryResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><spotPriceHistorySet>{items}</spotPriceHistorySet></DescribeSpotPriceHistoryResponse>'


def close_pools(ec2: Any, codes: Callable[[str, str], str | None], *, instances: int = 1) -> None:
    """Answer CreateFleet by pool: an error for each (type, subnet) with a code, instances in the first that has none."""

    def hook(model: Any, params: Any, **_: Any) -> Any:
        pools = _requested_pools(params["body"])
        errors = tuple((code, pool) for pool in pools if (code := codes(pool.instance_type, pool.subnet_id)))
        open_pools = [pool for pool in pools if not codes(pool.instance_type, pool.subnet_id)]
        started = tuple((f"i-{n:017x}", open_pools[0]) for n in range(1, instances + 1)) if open_pools else ()
        return _answer(model, 200, fleet_xml(instances=started, errors=errors))

    ec2.meta.events.register("before-call.ec2.CreateFleet", hook)


def limit_pools(ec2: Any, room: int) -> None:
    """Answer CreateFleet as the reference says of MinTargetCapacity: no instance where fewer than that are to be had."""

    def hook(model: Any, params: Any, **_: Any) -> Any:
        asked = params["body"]
        options = "SpotOptions" if asked["TargetCapacitySpecification.DefaultTargetCapacityType"] == "spot" else "OnDemandOptions"
        together = all(asked.get(f"{options}.{name}") == "true" for name in ("SingleInstanceType", "SingleAvailabilityZone"))
        least = int(asked.get(f"{options}.MinTargetCapacity", 0)) if together else 0
        pools = _requested_pools(asked)
        if least > room:
            return _answer(model, 200, fleet_xml(errors=tuple(("InsufficientInstanceCapacity", pool) for pool in pools)))
        return _answer(model, 200, fleet_xml(instances=tuple((f"i-{n:017x}", pools[0]) for n in range(1, room + 1))))

    ec2.meta.events.register("before-call.ec2.CreateFleet", hook)


def _requested_pools(request: dict[str, str]) -> list[Pool]:
    pools: list[Pool] = []
    while (field := f"LaunchTemplateConfigs.1.Overrides.{len(pools) + 1}") + ".InstanceType" in request:
        pools.append(Pool(instance_type=request[f"{field}.InstanceType"], zone="", subnet_id=request[f"{field}.SubnetId"]))
    return pools


def _overrides(pool: Pool | None) -> str:
    if pool is None:
        return ""
    return (
        "<launchTemplateAndOverrides><launchTemplateSpecification><launchTemplateId>lt-0123456789abcdef0</launchTemplateId><version>1</version>"
        f"</launchTemplateSpecification><overrides><instanceType>{pool.instance_type}</instanceType><subnetId>{pool.subnet_id}</subnetId></overrides>"
        "</launchTemplateAndOverrides>"
    )


def _error_item(code: str, pool: Pool | None) -> str:
    message = _CLOSED_MESSAGE.format(type=pool.instance_type if pool else "the")
    return f"<item>{_overrides(pool)}<lifecycle>spot</lifecycle><errorCode>{code}</errorCode><errorMessage>{message}</errorMessage></item>"


def _instance_item(instance_ids: list[str], pool: Pool, terse: bool) -> str:
    overrides = "" if terse else _overrides(pool)
    ids = "".join(f"<item>{instance_id}</item>" for instance_id in instance_ids)
    return f"<item>{overrides}<lifecycle>spot</lifecycle><instanceIds>{ids}</instanceIds><instanceType>{pool.instance_type}</instanceType></item>"


def _answer(model: Any, status: int, body: str) -> Any:
    """What botocore makes of these bytes. A hook before the call that returns it keeps the request from being sent."""
    parsed = create_parser("ec2").parse({"status_code": status, "headers": {}, "body": body.encode()}, model.output_shape)
    # The raw side is asked for its status only.
    nothing: Any = {}
    return AWSResponse("https://ec2.us-east-1.amazonaws.com/", status, nothing, nothing), parsed
