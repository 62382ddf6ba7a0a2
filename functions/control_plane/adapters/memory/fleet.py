"""EC2 in memory: capacity, quota and prices that the caller sets, client tokens that remember, states that move when told.

Where AWS's behaviour is not established this fake takes the harsher reading (shared facts: "Not established"):
* a client token is zonal, so a plan that moved to other zones under its old token starts a second instance;
* a token whose instance has ended is spent (IdempotentInstanceTerminated), unless ``spent_after_end`` is off.
"""

from dataclasses import dataclass, field, replace

from control_plane.adapters.refusals import PoolError, refused
from control_plane.core.events import InstanceSight, LaunchedInstance, LaunchRefused, LaunchSucceeded, Offers
from control_plane.core.state import LaunchPlan, Market, Pool
from control_plane.ports import Clock, OutcomeUnknown, Throttled
from jobspec import tags as tag_keys
from jobspec.instances import GPU_INSTANCES

#: States in which an instance counts against the vCPU quota; EC2 is slow to forget one that is going.
_COUNTED = frozenset({"pending", "running", "stopping", "shutting-down"})


@dataclass(frozen=True, slots=True)
class ThrottledCall:
    """The next launch is throttled as a whole: no effect, nothing remembered of its token."""


@dataclass(frozen=True, slots=True)
class LostAnswer:
    """The next launch's answer never arrives; ``effect`` says whether EC2 did the work."""

    effect: bool


Fault = ThrottledCall | LostAnswer
Answer = LaunchSucceeded | LaunchRefused


@dataclass(frozen=True, slots=True)
class _Remembered:
    plan: LaunchPlan
    tags: dict[str, str]
    answer: Answer

    @property
    def zones(self) -> set[str]:
        return {pool.zone for pool in self.plan.pools}


@dataclass
class MemoryFleet:
    """A Fleet. The public fields are the market's controls and the record of calls; set and read them freely.

    ``capacity`` counts the launches that a pool (type, zone, market) still takes; a pool not named takes any number.
    ``quota_vcpus`` limits the vCPUs of a market at one time. ``pool_errors`` makes a pool (type, zone) answer with an error code,
    such as RequestLimitExceeded inside Errors[]. ``extra_instances`` is how many too many the next launch starts.
    ``spot_usd_per_h`` overrides the price of (type, zone); elsewhere spot costs ``spot_share`` of on-demand.
    """

    now: Clock
    project: str
    subnets: dict[str, str]
    template_id: str = "lt-0123456789abcdef0"
    template_version: str = "1"
    role_id: str = "AROAEXAMPLEROLEID0001"
    capacity: dict[tuple[str, str, Market], int] = field(default_factory=dict)
    quota_vcpus: dict[Market, int] = field(default_factory=dict)
    pool_errors: dict[tuple[str, str], str] = field(default_factory=dict)
    spot_usd_per_h: dict[tuple[str, str], float] = field(default_factory=dict)
    spot_share: float = 0.35
    spent_after_end: bool = True
    extra_instances: int = 0
    #: Taken first to last, one a launch.
    faults: list[Fault] = field(default_factory=list)
    launch_calls: list[LaunchPlan] = field(default_factory=list)
    terminate_calls: list[str] = field(default_factory=list)
    _started: int = 0
    _instances: dict[str, InstanceSight] = field(default_factory=dict)
    _hidden: set[str] = field(default_factory=set)
    _tokens: dict[str, list[_Remembered]] = field(default_factory=dict)

    # The port.

    def offers(self) -> Offers:
        return Offers(dict(self.subnets), self.template_id, self.template_version, self.role_id)

    def launch(self, plan: LaunchPlan, tags: dict[str, str]) -> Answer:
        self.launch_calls.append(plan)
        fault = self.faults.pop(0) if self.faults else None
        if isinstance(fault, ThrottledCall):
            raise Throttled("RequestLimitExceeded: Request limit exceeded.")
        if isinstance(fault, LostAnswer) and not fault.effect:
            raise OutcomeUnknown("the call for a fleet timed out")
        answer = self._answer(plan, dict(tags))
        if fault is not None:
            raise OutcomeUnknown("the answer of a fleet call was lost")
        return answer

    def instances(self, job_id: str | None = None) -> tuple[InstanceSight, ...]:
        return tuple(
            sight
            for sight in self._instances.values()
            if sight.instance_id not in self._hidden
            and sight.tags.get(tag_keys.PROJECT) == self.project
            and (job_id is None or sight.tags.get(tag_keys.JOB) == job_id)
        )

    def terminate(self, instance_id: str) -> str | None:
        """Raises PermissionError for an instance without the project's tag, as the functions' role would."""
        self.terminate_calls.append(instance_id)
        sight = self._instances.get(instance_id)
        if sight is None or instance_id in self._hidden:
            return None
        if sight.tags.get(tag_keys.PROJECT) != self.project:
            raise PermissionError(f"UnauthorizedOperation: {instance_id} does not carry {tag_keys.PROJECT}={self.project}")
        if sight.state != "terminated":
            self._instances[instance_id] = replace(sight, state="shutting-down", state_reason=sight.state_reason or "Client.UserInitiatedShutdown")
        return self._instances[instance_id].state

    # The world's hand.

    def advance(self, instance_id: str, state: str, state_reason: str = "") -> None:
        """Move an instance to a state, with EC2's reason code where it gives one."""
        sight = self._instances[instance_id]
        self._instances[instance_id] = replace(sight, state=state, state_reason=state_reason or sight.state_reason)

    def hide(self, instance_id: str) -> None:
        """Eventual consistency: EC2 does not show or know the instance, until ``show``."""
        self._hidden.add(instance_id)

    def show(self, instance_id: str) -> None:
        self._hidden.discard(instance_id)

    def forget(self, instance_id: str) -> None:
        """EC2 shows an ended instance for about an hour, and then no longer."""
        del self._instances[instance_id]

    def place(self, sight: InstanceSight) -> None:
        """Put an instance there that this project did not start, or replace one (its tags, say)."""
        self._instances[sight.instance_id] = sight

    def every_instance(self) -> tuple[InstanceSight, ...]:
        """The truth: hidden and foreign instances too."""
        return tuple(self._instances.values())

    # How a launch is answered.

    def _answer(self, plan: LaunchPlan, tags: dict[str, str]) -> Answer:
        zones = {pool.zone for pool in plan.pools}
        for known in self._tokens.get(plan.client_token, []):
            if known.zones & zones:
                return self._repeat(known, plan, tags)
        answer = self._start(plan, tags)
        self._tokens.setdefault(plan.client_token, []).append(_Remembered(plan, tags, answer))
        return answer

    def _repeat(self, known: _Remembered, plan: LaunchPlan, tags: dict[str, str]) -> Answer:
        if (known.plan, known.tags) != (plan, tags):
            return _token_refused(plan, "IdempotentParameterMismatch", "The client token was used before with other parameters.")
        if self.spent_after_end and isinstance(known.answer, LaunchSucceeded) and all(self._is_over(i.instance_id) for i in known.answer.instances):
            return _token_refused(plan, "IdempotentInstanceTerminated", "The instance of this client token has been terminated.")
        return known.answer

    def _is_over(self, instance_id: str) -> bool:
        sight = self._instances.get(instance_id)
        return sight is None or sight.state == "terminated"

    def _start(self, plan: LaunchPlan, tags: dict[str, str]) -> Answer:
        errors = [(pool, code) for pool in plan.pools if (code := self._pool_error(plan.market, pool))]
        open_pools = [pool for pool in plan.pools if pool not in {pool for pool, _ in errors}]
        if not open_pools:
            return refused(plan, [PoolError(code, f"{code} for {pool.instance_type} in {pool.zone}.", (pool,)) for pool, code in errors])
        # min() keeps the plan's order among pools of one price.
        chosen = min(open_pools, key=lambda pool: self.usd_per_h(plan.market, pool))
        count, self.extra_instances = 1 + self.extra_instances, 0
        return LaunchSucceeded(plan, tuple(self._boot(plan.market, chosen, tags) for _ in range(count)))

    def _pool_error(self, market: Market, pool: Pool) -> str | None:
        scripted = self.pool_errors.get((pool.instance_type, pool.zone))
        if scripted:
            return scripted
        quota = self.quota_vcpus.get(market)
        if quota is not None and self._used_vcpus(market) + GPU_INSTANCES[pool.instance_type].vcpus > quota:
            return "MaxSpotInstanceCountExceeded" if market is Market.SPOT else "VcpuLimitExceeded"
        if self.capacity.get((pool.instance_type, pool.zone, market), 1) < 1:
            return "InsufficientInstanceCapacity"
        return None

    def _used_vcpus(self, market: Market) -> int:
        return sum(GPU_INSTANCES[s.instance_type].vcpus for s in self._instances.values() if s.lifecycle == market and s.state in _COUNTED)

    def usd_per_h(self, market: Market, pool: Pool) -> float:
        """What an hour in the pool costs now."""
        on_demand = GPU_INSTANCES[pool.instance_type].on_demand_usd_per_h
        if market is Market.ON_DEMAND:
            return on_demand
        return self.spot_usd_per_h.get((pool.instance_type, pool.zone), round(on_demand * self.spot_share, 4))

    def _boot(self, market: Market, pool: Pool, tags: dict[str, str]) -> LaunchedInstance:
        self._started += 1
        instance_id = f"i-{self._started:017x}"
        slot = (pool.instance_type, pool.zone, market)
        if slot in self.capacity:
            self.capacity[slot] -= 1
        self._instances[instance_id] = InstanceSight(instance_id, "pending", dict(tags), self.now(), pool.instance_type, pool.zone, market.value)
        return LaunchedInstance(instance_id, pool, self.usd_per_h(market, pool))


def _token_refused(plan: LaunchPlan, code: str, message: str) -> LaunchRefused:
    return refused(plan, [PoolError(code, message, plan.pools)])
