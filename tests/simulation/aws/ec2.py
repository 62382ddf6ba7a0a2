"""EC2: fleets, client tokens that remember, instances that are born unseen, and answers that hold errors beside instances.

Harsher readings, where AWS's behaviour is not established (shared facts: "Not established"):
* a client token is zonal, so a request that moved to other zones under its old token starts a second instance;
* a token whose instance has ended is spent (IdempotentInstanceTerminated), unless ``spent_after_end`` is off;
* without ``MinTargetCapacity`` a fleet starts what it can get, and without the ``Single...`` options one here and one there;
* ``missing_instances``: an answer with fewer instances than the smallest number asked for, which the reference rules out.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jobspec import on_demand
from jobspec import tags as tag_keys
from jobspec.instances import GPU_INSTANCES
from jobspec.regions import region_of
from tests.simulation.aws.faults import aws_error
from tests.simulation.aws.pages import Paginator

if TYPE_CHECKING:
    from tests.simulation.aws.account import Account

#: States in which an instance counts against the vCPU quota; EC2 is slow to forget one that is going.
_COUNTED = frozenset({"pending", "running", "stopping", "shutting-down"})


@dataclass(slots=True)
class Instance:
    """The truth of one instance. ``hidden``: no call shows or knows it yet."""

    instance_id: str
    instance_type: str
    zone: str
    market: str
    tags: dict[str, str]
    launched_at: datetime
    usd_per_h: float
    template_version: str
    client_token: str = ""
    state: str = "pending"
    state_reason: str = ""
    hidden: bool = False
    #: EC2 shows an ended instance for about an hour, and then no longer.
    forgotten: bool = False
    gone_at: datetime | None = None

    @property
    def is_live(self) -> bool:
        return self.state in ("pending", "running")


@dataclass(slots=True)
class _Remembered:
    request: str
    zones: frozenset[str]
    answer: dict[str, Any]


@dataclass
class Ec2:
    """A client, and the market behind it. The public fields are the market's controls; set and read them freely.

    ``capacity`` counts the launches that a pool (type, zone, market) still takes; a pool not named takes any number.
    ``quota_vcpus`` limits the vCPUs of a market at one time. ``pool_errors`` makes a pool (type, zone) answer with a code, such
    as RequestLimitExceeded inside Errors[]. ``extra_instances`` is how many too many the next launch starts, ``missing_instances`` how
    many too few.
    """

    account: "Account"
    subnets: dict[str, str] = field(default_factory=lambda: {"subnet-a": "us-east-1a", "subnet-b": "us-east-1b"})
    template_id: str = "lt-0123456789abcdef0"
    #: The newest version: what $Latest means.
    template_version: str = "1"
    capacity: dict[tuple[str, str, str], int] = field(default_factory=dict)
    quota_vcpus: dict[str, int] = field(default_factory=dict)
    #: (market, instance type, zone or region, or "" for all; code): what pools answer for now.
    closed: list[tuple[str, str, str]] = field(default_factory=list)
    pool_errors: dict[tuple[str, str], str] = field(default_factory=dict)
    spot_usd_per_h: dict[tuple[str, str], float] = field(default_factory=dict)
    spot_share: float = 0.35
    spent_after_end: bool = True
    #: Instances in a page of answers: so few that a fault can fall between two pages of any scenario.
    page_rows: int = 2
    extra_instances: int = 0
    missing_instances: int = 0
    terminated_after_s: Callable[[str], float] = lambda instance_id: 0.0
    hidden_for_s: Callable[[], float] = lambda: 0.0
    on_launch: Callable[[Instance], None] = lambda instance: None
    on_change: Callable[[Instance], None] = lambda instance: None
    on_terminate: Callable[[str, "Instance | None"], None] = lambda instance_id, instance: None
    instances: dict[str, Instance] = field(default_factory=dict)
    fleet_requests: list[dict[str, Any]] = field(default_factory=list)
    terminate_calls: list[str] = field(default_factory=list)
    _tokens: dict[str, list[_Remembered]] = field(default_factory=dict)
    #: Whose instances are asked for by their job's tag, which is theirs from birth.
    _of_job: dict[str, list[Instance]] = field(default_factory=dict)

    # The client.

    def describe_subnets(self, *, SubnetIds: list[str]) -> dict[str, Any]:
        rows = [{"SubnetId": subnet, "AvailabilityZone": self.subnets[subnet]} for subnet in SubnetIds]
        return self._call("describe_subnets", "", lambda: {"Subnets": rows})

    def create_fleet(self, **request: Any) -> dict[str, Any]:
        self.fleet_requests.append(request)
        return self._call("create_fleet", _tag(request, tag_keys.JOB), lambda: self._answer(request))

    def describe_instances(self, *, Filters: list[dict[str, Any]], _start: int = 0, _region: str = "") -> dict[str, Any]:
        wanted = {entry["Name"].removeprefix("tag:"): entry["Values"] for entry in Filters}

        def read() -> dict[str, Any]:
            jobs = wanted.get(tag_keys.JOB)
            among = self.instances.values() if jobs is None else [one for job_id in jobs for one in self._of_job.get(job_id, ())]
            seen = [
                one
                for one in among
                if not (one.hidden or one.forgotten) and one.zone.startswith(_region) and all(one.tags.get(key) in values for key, values in wanted.items())
            ]
            page = [_described(one) for one in seen[_start : _start + self.page_rows]]
            return {"Reservations": [{"Instances": page}] if page else [], "_next": _start + self.page_rows if len(seen) > _start + self.page_rows else None}

        return self._call("describe_instances", (wanted.get(tag_keys.JOB) or ["every job"])[0], read)

    def get_paginator(self, operation: str) -> Any:
        pages: dict[str, Callable[..., dict[str, Any]]] = {
            "describe_instances": self.describe_instances,
            "describe_spot_price_history": self.describe_spot_price_history,
        }
        return Paginator(pages[operation])

    def terminate_instances(self, *, InstanceIds: list[str]) -> dict[str, Any]:
        self.terminate_calls.extend(InstanceIds)

        def terminate() -> dict[str, Any]:
            # One bad id fails the whole batch, and none is ended.
            for instance_id in InstanceIds:
                self._of_ours(instance_id, "TerminateInstances")
            for instance_id in InstanceIds:
                self.on_terminate(instance_id, self.instances.get(instance_id))
                self.end(instance_id, "Client.UserInitiatedShutdown")
            return {"TerminatingInstances": [{"InstanceId": i, "CurrentState": {"Name": self.instances[i].state}} for i in InstanceIds]}

        return self._call("terminate_instances", ",".join(InstanceIds), terminate)

    def create_tags(self, *, Resources: list[str], Tags: list[dict[str, str]]) -> dict[str, Any]:
        def tag() -> dict[str, Any]:
            if {entry["Key"] for entry in Tags} != {tag_keys.STRAY_SINCE}:
                raise aws_error("UnauthorizedOperation", "the role may set one tag only", "CreateTags")
            for instance_id in Resources:
                self._of_ours(instance_id, "CreateTags").tags.update({entry["Key"]: entry["Value"] for entry in Tags})
            return {}

        return self._call("create_tags", ",".join(Resources), tag)

    def describe_spot_price_history(self, *, InstanceTypes: list[str], AvailabilityZone: str = "", _region: str = "", **_: Any) -> dict[str, Any]:
        def read() -> dict[str, Any]:
            zones = [AvailabilityZone] if AvailabilityZone else sorted(zone for zone in set(self.subnets.values()) if zone.startswith(_region))
            rows = [
                {"InstanceType": kind, "AvailabilityZone": zone, "SpotPrice": str(self.usd_per_h("spot", kind, zone)), "Timestamp": self.account.now()}
                for kind in InstanceTypes
                for zone in zones
            ]
            return {"SpotPriceHistory": rows, "_next": None}

        subject = f"{InstanceTypes[0]} {AvailabilityZone}" if AvailabilityZone else "every pool"
        return self._call("describe_spot_price_history", subject, read)

    # The market's and the world's hand.

    def live(self) -> list[str]:
        return [one.instance_id for one in self.instances.values() if one.is_live]

    def change(self, instance_id: str, state: str, reason: str = "") -> None:
        """Move an instance to a state, with EC2's reason code where it gives one; its event goes out."""
        one = self.instances[instance_id]
        if one.state == state:
            return
        one.state, one.state_reason = state, reason or one.state_reason
        if state in ("shutting-down", "terminated") and one.gone_at is None:
            one.gone_at = self.account.now()
        self.account.emit("aws.ec2", "EC2 Instance State-change Notification", {"instance-id": instance_id, "state": state})
        self.on_change(one)

    def end(self, instance_id: str, reason: str) -> None:
        """Begin an instance's end, whoever asked for it. An instance that is ending or ended stays as it is."""
        one = self.instances[instance_id]
        if one.state in ("shutting-down", "terminated"):
            return
        self.change(instance_id, "shutting-down", reason)
        self.account.later(self.terminated_after_s(instance_id), lambda: self.change(instance_id, "terminated"))

    def warn(self, instance_id: str) -> None:
        """EC2's spot interruption warning; what follows it is up to the caller."""
        self.account.emit("aws.ec2", "EC2 Spot Instance Interruption Warning", {"instance-id": instance_id, "instance-action": "terminate"})

    def place(self, instance: Instance) -> None:
        """Put an instance there that this project did not start."""
        self.instances[instance.instance_id] = instance
        self._of_job.setdefault(instance.tags.get(tag_keys.JOB, ""), []).append(instance)

    def usd_per_h(self, market: str, instance_type: str, zone: str) -> float:
        """What an hour in the pool costs now."""
        listed = on_demand.usd_per_h(instance_type, region_of(zone))
        return listed if market != "spot" else self.spot_usd_per_h.get((instance_type, zone), round(listed * self.spot_share, 4))

    def _call(self, operation: str, subject: str, effect: Callable[[], Any]) -> dict[str, Any]:
        answer: dict[str, Any] = self.account.call(f"ec2.{operation}", subject, effect)
        return answer

    def _of_ours(self, instance_id: str, operation: str) -> Instance:
        one = self.instances.get(instance_id)
        if one is None or one.hidden or one.forgotten:
            raise aws_error("InvalidInstanceID.NotFound", f"The instance ID '{instance_id}' does not exist", operation)
        if one.tags.get(tag_keys.PROJECT) != self.account.project:
            self.on_terminate(instance_id, one)
            raise aws_error("UnauthorizedOperation", "You are not authorized to perform this operation.", operation)
        return one

    # How a fleet request is answered.

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        token = request.get("ClientToken", "")
        text = json.dumps(request, sort_keys=True, default=str)
        zones = frozenset(self.subnets[override["SubnetId"]] for override in _overrides(request))
        for known in self._tokens.get(token, []) if token else []:
            if known.zones & zones:
                if known.request != text:
                    raise aws_error("IdempotentParameterMismatch", "The client token was used before with other parameters.", "CreateFleet")
                ids = [i for entry in known.answer["Instances"] for i in entry["InstanceIds"]]
                if self.spent_after_end and ids and all(self._is_over(i) for i in ids):
                    raise aws_error("IdempotentInstanceTerminated", "The instance of this client token has been terminated.", "CreateFleet")
                return known.answer
        answer = self._start(request, token)
        self._tokens.setdefault(token, []).append(_Remembered(text, zones, answer))
        return answer

    def _is_over(self, instance_id: str) -> bool:
        one = self.instances.get(instance_id)
        return one is None or one.state == "terminated"

    def _start(self, request: dict[str, Any], token: str) -> dict[str, Any]:
        target = request["TargetCapacitySpecification"]
        market, wanted = target["DefaultTargetCapacityType"], target["TotalTargetCapacity"]
        least, one_pool = _together(request, market)
        pools = [(override["InstanceType"], self.subnets[override["SubnetId"]], override) for override in _overrides(request)]
        errors = [(override, code) for kind, zone, override in pools if (code := self._pool_error(market, kind, zone, least or 1))]
        rows = [
            {"LaunchTemplateAndOverrides": {"Overrides": override}, "Lifecycle": market, "ErrorCode": code, "ErrorMessage": f"{code} in this pool."}
            for override, code in errors
        ]
        refused = [override for override, _ in errors]
        # sorted() keeps the request's order among pools of one price.
        open_pools = sorted((pool for pool in pools if pool[2] not in refused), key=lambda pool: self.usd_per_h(market, pool[0], pool[1]))
        entries = []
        version = request["LaunchTemplateConfigs"][0]["LaunchTemplateSpecification"]["Version"]
        for (kind, zone, override), count in zip(open_pools, self._shares(market, open_pools, wanted, one_pool=one_pool), strict=True):
            started = [self._boot(request, market, kind, zone, self.template_version if version.startswith("$") else version, token) for _ in range(count)]
            if started:
                entries.append({"LaunchTemplateAndOverrides": {"Overrides": override}, "Lifecycle": market, "InstanceIds": started, "InstanceType": kind})
        return {"Instances": entries, "Errors": rows}

    def _shares(self, market: str, pools: list[tuple[str, str, Any]], wanted: int, *, one_pool: bool) -> list[int]:
        """How many are started in each pool: all in the first, or, unless they are to stay together, one here and one there."""
        rooms = [self.capacity.get((kind, zone, market), wanted) for kind, zone, _ in pools]
        if one_pool or wanted == 1:
            rooms[1:] = [0] * len(rooms[1:])
        shares = [0] * len(pools)
        while sum(shares) < min(wanted, sum(rooms)):
            n = min((n for n in range(len(pools)) if shares[n] < rooms[n]), key=lambda n: shares[n])
            shares[n] += 1
        if shares:
            shares[0] += self.extra_instances - self.missing_instances
            self.extra_instances = self.missing_instances = 0
        return shares

    def _pool_error(self, market: str, instance_type: str, zone: str, least: int) -> str | None:
        """Why the pool has not the least number of instances that the fleet starts with; None: it has."""
        scripted = self.pool_errors.get((instance_type, zone))
        for closed, where, code in self.closed:
            if not scripted and closed == market and where in ("", instance_type, zone, zone[:-1]):
                return code
        if scripted:
            return scripted
        quota = self.quota_vcpus.get(market)
        if quota is not None and self._used_vcpus(market) + least * GPU_INSTANCES[instance_type].vcpus > quota:
            return "MaxSpotInstanceCountExceeded" if market == "spot" else "VcpuLimitExceeded"
        if self.capacity.get((instance_type, zone, market), least) < least:
            return "InsufficientInstanceCapacity"
        return None

    def _used_vcpus(self, market: str) -> int:
        return sum(GPU_INSTANCES[one.instance_type].vcpus for one in self.instances.values() if one.market == market and one.state in _COUNTED)

    def _boot(self, request: dict[str, Any], market: str, instance_type: str, zone: str, version: str, token: str) -> str:
        slot = (instance_type, zone, market)
        if slot in self.capacity:
            self.capacity[slot] -= 1
        instance_id = f"i-{len(self.instances) + 1:017x}"
        one = Instance(
            instance_id, instance_type, zone, market, _tags(request), self.account.now(), self.usd_per_h(market, instance_type, zone), version, token
        )
        self.place(one)
        hidden_s = self.hidden_for_s()
        if hidden_s:
            one.hidden = True
            self.account.later(hidden_s, lambda: setattr(one, "hidden", False))
        self.account.emit("aws.ec2", "EC2 Instance State-change Notification", {"instance-id": instance_id, "state": "pending"})
        self.on_launch(one)
        return instance_id


def _together(request: dict[str, Any], market: str) -> tuple[int, bool]:
    """The least number of instances that the market's options ask for (0: none), and whether all are to be of one pool."""
    options = request.get("SpotOptions" if market == "spot" else "OnDemandOptions", {})
    singles = [bool(options.get(name)) for name in ("SingleInstanceType", "SingleAvailabilityZone")]
    if options.get("MinTargetCapacity") and not any(singles):
        raise aws_error("InvalidParameterCombination", "MinTargetCapacity needs SingleInstanceType or SingleAvailabilityZone.", "CreateFleet")
    return options.get("MinTargetCapacity", 0), all(singles)


def _overrides(request: dict[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = request["LaunchTemplateConfigs"][0]["Overrides"]
    return rows


def _tags(request: dict[str, Any]) -> dict[str, str]:
    for entry in request.get("TagSpecifications", []):
        if entry["ResourceType"] == "instance":
            return {tag["Key"]: tag["Value"] for tag in entry["Tags"]}
    return {}


def _tag(request: dict[str, Any], key: str) -> str:
    return _tags(request).get(key, "untagged")


def address_of(one: Instance) -> str:
    """Its private address, which it keeps to its end."""
    number = int(one.instance_id[2:], 16)
    return f"10.0.{number // 250 % 250}.{number % 250 + 4}"


def _described(one: Instance) -> dict[str, Any]:
    described: dict[str, Any] = {
        "InstanceId": one.instance_id,
        "State": {"Name": one.state},
        "Tags": [{"Key": key, "Value": value} for key, value in one.tags.items()],
        "LaunchTime": one.launched_at,
        "InstanceType": one.instance_type,
        "Placement": {"AvailabilityZone": one.zone},
    }
    if one.is_live:
        described["PrivateIpAddress"] = address_of(one)
    if one.market == "spot":
        described["InstanceLifecycle"] = "spot"
    if one.state_reason:
        described["StateReason"] = {"Code": one.state_reason}
    return described
