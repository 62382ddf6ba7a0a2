"""EC2, as far as this project's own instances go: one CreateFleet call a plan, reads by tag, one id a terminate call.

An answer is read for what it did before what it says: any instance in it counts, errors beside it or not, for an instance that
is overlooked is a leak. HTTP 200 with no instance is a refusal. No answer is OutcomeUnknown, never a guess.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from threading import RLock
from typing import Any, NoReturn

from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError, IncompleteReadError  # noqa: A004 - botocore's name; the builtin is not used here
from botocore.parsers import ResponseParserError

from control_plane.adapters.prices import PRODUCTS, SpotPrices
from control_plane.adapters.refusals import PoolError, refused
from control_plane.core.events import InstanceSight, LaunchedInstance, LaunchRefused, LaunchSucceeded, Offers
from control_plane.core.failures import NOT_FOUND, THROTTLE, UNKNOWN_OUTCOME, RefusalKind, kind_of
from control_plane.core.records import LaunchPlan, Market, Pool, PriceChange
from control_plane.ports import Clock, OutcomeUnknown, Throttled
from jobspec import on_demand
from jobspec import tags as tag_keys
from jobspec.instances import GPU_INSTANCES
from jobspec.regions import region_of

#: The request may have arrived: timeouts, broken connections, an answer that is no answer.
_LOST = (HTTPClientError, ConnectionError, IncompleteReadError, ResponseParserError)
_PAGE = 200


@dataclass(frozen=True, slots=True)
class Site:
    """What a region's stack has to launch from. ``subnet_ids`` in order of preference: the first of a zone stands for it."""

    subnet_ids: tuple[str, ...]
    template_id: str
    template_version: str
    role_id: str


class Ec2Fleet:
    """A Fleet over a boto3 EC2 client, in that client's region. ``site``: asked for only when there is something to launch."""

    def __init__(self, ec2: Any, *, project: str, site: Callable[[], Site], now: Clock) -> None:
        self._ec2 = ec2
        self._project = project
        self._site = site
        self._now = now
        self._zones: dict[str, str] = {}
        self._prices = SpotPrices(ec2, now)
        self._asking = RLock()

    def offers(self) -> Offers:
        """Subnets do not change zones: asked once and kept for the life of the function's process.

        A tick drives jobs on several threads: one of them asks, and the others wait for its answer.
        """
        with self._asking:
            return self._offers()

    def _offers(self) -> Offers:
        site = self._site()
        if not self._zones.keys() >= set(site.subnet_ids):
            answer = self._ec2.describe_subnets(SubnetIds=list(site.subnet_ids))
            self._zones = {subnet["SubnetId"]: subnet["AvailabilityZone"] for subnet in answer["Subnets"]}
        subnets = {self._zones[subnet_id]: subnet_id for subnet_id in reversed(site.subnet_ids)}
        return Offers(subnets, site.template_id, site.template_version, site.role_id, self._prices.in_force())

    def launch(self, plan: LaunchPlan, tags: dict[str, str]) -> LaunchSucceeded | LaunchRefused:
        try:
            answer = self._ec2.create_fleet(**fleet_request(plan, tags))
        except ClientError as error:
            problem = _passing(error)
            if problem is not None:
                raise problem from error
            return refused(plan, [PoolError(_code(error), error.response["Error"].get("Message", ""), plan.pools)])
        except _LOST as error:
            raise OutcomeUnknown(f"CreateFleet for attempt {plan.attempt}: {error}") from error
        if not any(entry.get("InstanceIds") for entry in answer.get("Instances", [])):
            return refused(plan, [_pool_error(plan, entry) for entry in answer.get("Errors", [])])
        return LaunchSucceeded(plan, tuple(launched for entry in answer["Instances"] for launched in self._launched(plan, entry)))

    def instances(self, job_id: str | None = None) -> tuple[InstanceSight, ...]:
        filters = [{"Name": f"tag:{tag_keys.PROJECT}", "Values": [self._project]}]
        if job_id is not None:
            filters.append({"Name": f"tag:{tag_keys.JOB}", "Values": [job_id]})
        pages = self._ec2.get_paginator("describe_instances").paginate(Filters=filters, PaginationConfig={"PageSize": _PAGE})
        return tuple(_sight(instance) for page in pages for reservation in page["Reservations"] for instance in reservation["Instances"])

    def terminate(self, instance_id: str) -> str | None:
        """Raises Throttled, OutcomeUnknown, and ClientError where EC2 forbids it (an instance without the project's tag)."""
        try:
            answer = self._ec2.terminate_instances(InstanceIds=[instance_id])
        except ClientError as error:
            if _code(error) in NOT_FOUND:
                return None
            _raise(error)
        except _LOST as error:
            raise OutcomeUnknown(f"TerminateInstances for {instance_id}: {error}") from error
        state: str = answer["TerminatingInstances"][0]["CurrentState"]["Name"]
        return state

    def mark_stray(self, instance_id: str, at: datetime | None) -> None:
        """Raises as ``terminate`` does. An empty value is no mark: so the role needs no right to take tags away."""
        value = str(int(at.timestamp())) if at is not None else ""
        try:
            self._ec2.create_tags(Resources=[instance_id], Tags=[{"Key": tag_keys.STRAY_SINCE, "Value": value}])
        except ClientError as error:
            _raise(error)
        except _LOST as error:
            raise OutcomeUnknown(f"CreateTags for {instance_id}: {error}") from error

    def price_changes(self, instance_type: str, zone: str, since: datetime) -> tuple[PriceChange, ...]:
        """DescribeSpotPriceHistory: from its ``StartTime`` on, and the price that was in force then."""
        pages = self._ec2.get_paginator("describe_spot_price_history").paginate(
            InstanceTypes=[instance_type],
            AvailabilityZone=zone,
            ProductDescriptions=list(PRODUCTS),
            StartTime=since,
        )
        return tuple(PriceChange(at=entry["Timestamp"], usd_per_h=float(entry["SpotPrice"])) for page in pages for entry in page["SpotPriceHistory"])

    def _launched(self, plan: LaunchPlan, entry: dict[str, Any]) -> list[LaunchedInstance]:
        """The instances of one entry, which are of one pool and one price."""
        if not entry.get("InstanceIds"):
            return []
        pools = _pools_of(plan, entry)
        # EC2 names the pool. Should it ever name an unknown one, a guess at the price is better than an overlooked instance.
        pool = pools[0] if pools else plan.pools[0]
        usd_per_h = self._usd_per_h(plan.market, pool)
        return [LaunchedInstance(instance_id, pool, usd_per_h) for instance_id in entry["InstanceIds"]]

    def _usd_per_h(self, market: Market, pool: Pool) -> float:
        """The pool's price now. A launch must not be lost over its price: where none is to be had, on-demand is the upper bound."""
        bound = _on_demand_usd_per_h(pool)
        if market is Market.ON_DEMAND:
            return bound
        # It was placed by this price a moment ago. What is billed is read within the hour.
        if (kept := self._prices.kept(pool.instance_type, pool.zone)) is not None:
            return kept
        try:
            newest = max(self.price_changes(pool.instance_type, pool.zone, self._now()), key=lambda change: change.at, default=None)
        except (ClientError, BotoCoreError, KeyError, ValueError):
            return bound
        return newest.usd_per_h if newest else bound


def fleet_request(plan: LaunchPlan, tags: dict[str, str]) -> dict[str, Any]:
    """The call for a plan: a function of the plan and the tags alone, so that its retry is the same call."""
    tag_list = [{"Key": key, "Value": value} for key, value in tags.items()]
    request: dict[str, Any] = {
        "Type": "instant",
        "ClientToken": plan.client_token,
        "TargetCapacitySpecification": {"TotalTargetCapacity": plan.nodes, "DefaultTargetCapacityType": plan.market.value},
        "LaunchTemplateConfigs": [
            {
                "LaunchTemplateSpecification": {"LaunchTemplateId": plan.template_id, "Version": plan.template_version},
                "Overrides": [{"InstanceType": pool.instance_type, "SubnetId": pool.subnet_id} for pool in plan.pools],
            }
        ],
        # Tags at birth: an instance that lives untagged for a second can be missed by the sweep for strays.
        "TagSpecifications": [{"ResourceType": kind, "Tags": tag_list} for kind in ("instance", "volume")],
    }
    # All or none, and side by side; the options are each market's own, and ``instant`` fleets alone know them (CreateFleet's reference).
    together = {"MinTargetCapacity": plan.nodes, "SingleInstanceType": True, "SingleAvailabilityZone": True} if plan.nodes > 1 else {}
    # Named, because the default is lowest-price for spot too, which picks the pools that are interrupted most.
    if plan.market is Market.SPOT:
        return request | {"SpotOptions": {"AllocationStrategy": "price-capacity-optimized"} | together}
    return request | {"OnDemandOptions": {"AllocationStrategy": "lowest-price"} | together}


def _code(error: ClientError) -> str:
    return str(error.response["Error"].get("Code", ""))


def _passing(error: ClientError) -> Throttled | OutcomeUnknown | None:
    """The port's error for an answer that is none; None where EC2 did answer."""
    if _code(error) in THROTTLE:
        return Throttled(str(error))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    # Some refusals are server errors by their status (InsufficientInstanceCapacity is): a code that is known outweighs it.
    if _code(error) in UNKNOWN_OUTCOME or (status >= 500 and kind_of(_code(error)) is RefusalKind.UNKNOWN):
        return OutcomeUnknown(str(error))
    return None


def _raise(error: ClientError) -> NoReturn:
    raise _passing(error) or error


def _pools_of(plan: LaunchPlan, entry: dict[str, Any]) -> tuple[Pool, ...]:
    """The plan's pools that an entry of Instances[] or Errors[] speaks of: all of them where it names none.

    Newer answers name type, subnet and zone in the entry itself, older ones only in its overrides.
    """
    named = entry.get("LaunchTemplateAndOverrides", {}).get("Overrides", {}) | entry
    wanted = [
        (field, named[key]) for field, key in (("instance_type", "InstanceType"), ("subnet_id", "SubnetId"), ("zone", "AvailabilityZone")) if named.get(key)
    ]
    return tuple(pool for pool in plan.pools if all(getattr(pool, field) == value for field, value in wanted))


def _pool_error(plan: LaunchPlan, entry: dict[str, Any]) -> PoolError:
    return PoolError(entry.get("ErrorCode", ""), entry.get("ErrorMessage", ""), _pools_of(plan, entry))


def _on_demand_usd_per_h(pool: Pool) -> float:
    """The region's price; for a type that has left the list since the job was accepted, the dearest one."""
    region = region_of(pool.zone)
    return on_demand.usd_per_h(pool.instance_type, region) if pool.instance_type in GPU_INSTANCES else on_demand.dearest_usd_per_h(region)


def _sight(instance: dict[str, Any]) -> InstanceSight:
    return InstanceSight(
        instance_id=instance["InstanceId"],
        state=instance["State"]["Name"],
        tags={tag["Key"]: tag["Value"] for tag in instance.get("Tags", [])},
        launched_at=instance["LaunchTime"],
        instance_type=instance["InstanceType"],
        zone=instance.get("Placement", {}).get("AvailabilityZone", ""),
        lifecycle=instance.get("InstanceLifecycle", Market.ON_DEMAND.value),
        state_reason=instance.get("StateReason", {}).get("Code", ""),
        address=instance.get("PrivateIpAddress", ""),
    )
