"""What happens in a run, as data: jobs, boxes, the market, faults. A scenario and a seed give one trace, always the same.

A scenario is JSON, so that a failing one can be shrunk part by part, kept for ever and replayed (``tests/simulation/pinned``).
"""

import json
import random
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

#: What may become of one AWS call. Every kind can hit every call.
THROTTLED = "throttled"
CRASH_BEFORE = "crash before"
UNKNOWN = "effect, then unknown outcome"
CRASH_AFTER = "effect, then crash"
LATE = "unknown outcome, effect later"
CALL_FAULTS = (THROTTLED, CRASH_BEFORE, UNKNOWN, CRASH_AFTER)


@dataclass(frozen=True)
class JobPlan:
    """A manifest, and what its user does with it. Times in seconds after the start; ``None`` leaves the default."""

    put_s: float = 0.0
    steps: int = 40
    step_s: float = 10.0
    save_every_s: float = 120.0
    market: str = "spot"
    priority: str = "normal"
    max_runtime_s: int = 3600
    max_attempts: int = 6
    max_wait_s: int = 5400
    budget_usd: float = 20.0
    #: After the start; None for no deadline.
    deadline_s: int | None = None
    notify: tuple[str, ...] = ()
    #: (seconds, what): delete, put again (the same text), overwrite (another text), spoil (an unreadable text)
    actions: tuple[tuple[float, str], ...] = ()
    #: Index of the job whose key this one uses; -1 for its own.
    key_of: int = -1
    valid: bool = True
    #: Whether its manifest wants it stopped once every GPU was idle for five minutes.
    stops_idle: bool = False


@dataclass(frozen=True)
class BoxPlan:
    """An instance's life, in the order of launches. ``fault``: see box.FAULTS; ``at_s`` after its training began."""

    boot_s: float = 40.0
    fault: str = ""
    at_s: float = 60.0
    #: Seconds after the launch at which EC2 takes it back; None: never.
    interrupted_s: float | None = None
    notice_s: float = 120.0
    #: Whether EventBridge and the instance metadata tell of the notice.
    event: bool = True
    imds: bool = True
    #: Seconds from the notice to the last save's publication.
    save_s: float = 20.0
    hidden_s: float = 0.0
    #: Seconds from shutting-down to terminated.
    ending_s: float = 20.0
    #: GPUs that its driver tells of, and how many of them fall idle ``idle_s`` after the training began.
    gpus: int = 0
    idle_gpus: int = 0
    idle_s: float = 0.0


@dataclass(frozen=True)
class CallFault:
    """The ``nth`` call of an operation (from 0) meets this."""

    operation: str
    nth: int
    kind: str


@dataclass(frozen=True)
class Storm:
    """A time in which calls of a service fail with a probability."""

    start_s: float
    end_s: float
    service: str
    kind: str
    probability: float


@dataclass(frozen=True)
class EventFault:
    """The ``nth`` event of a source is dropped, doubled (``copies``), or comes late."""

    source: str
    nth: int
    copies: int
    delay_s: float = 0.0


@dataclass(frozen=True)
class Drought:
    """No pool of a market has capacity (or quota) in this time. ``code`` is EC2's."""

    start_s: float
    end_s: float
    market: str
    code: str
    #: Only pools of this instance type or zone; empty for every pool of the market.
    where: str = ""


@dataclass(frozen=True)
class Outage:
    """A part that does not run: ``tick``, ``curfew``, ``events`` (all of them), ``ledger``."""

    start_s: float
    end_s: float
    part: str


@dataclass(frozen=True)
class Scenario:
    jobs: tuple[JobPlan, ...] = (JobPlan(),)
    boxes: tuple[BoxPlan, ...] = ()
    calls: tuple[CallFault, ...] = ()
    storms: tuple[Storm, ...] = ()
    events: tuple[EventFault, ...] = ()
    droughts: tuple[Drought, ...] = ()
    outages: tuple[Outage, ...] = ()
    #: Launches (from 0) at which EC2 starts one instance too many.
    too_many: tuple[int, ...] = ()
    max_concurrent_jobs: int = 5
    #: Longest latency of an ordinary call, in seconds.
    latency_s: float = 0.05
    index_lag_s: float = 0.0
    #: Seconds by which a function's clock may be wrong.
    skew_s: float = 0.0
    #: Seconds after its end at which EC2 shows an instance no longer.
    forgotten_s: float = 3600.0
    #: The hints in the order in which they are delivered, by the order in which they arose; None: as they come. A number may
    #: stand there twice or not at all; a hint waits for those before it.
    hints: tuple[int, ...] | None = None
    #: Seconds after the start at which the stack is updated to another launch template version; None: never.
    deploy_s: float | None = None
    #: Foreign instances stand beside ours, and their events are heard.
    strangers: bool = False

    @property
    def healed_s(self) -> float:
        """From here on nothing is broken any more."""
        return max(
            (0.0, *(s.end_s for s in self.storms), *(d.end_s for d in self.droughts), *(o.end_s for o in self.outages), *(e.delay_s for e in self.events))
        )

    def dump(self) -> str:
        return json.dumps(asdict(self))


_PARTS: dict[str, type] = {
    "jobs": JobPlan,
    "boxes": BoxPlan,
    "calls": CallFault,
    "storms": Storm,
    "events": EventFault,
    "droughts": Drought,
    "outages": Outage,
}


def load(text: str) -> Scenario:
    """The scenario that ``dump`` wrote."""
    found: dict[str, Any] = json.loads(text)
    known = {one.name for one in fields(Scenario)}
    unknown = set(found) - known
    if unknown:
        raise ValueError(f"a scenario has no {', '.join(sorted(unknown))}")
    for name, kind in _PARTS.items():
        found[name] = tuple(kind(**{key: _tuples(value) for key, value in one.items()}) for one in found.get(name, ()))
    found["too_many"] = tuple(found.get("too_many", ()))
    found["hints"] = tuple(found["hints"]) if found.get("hints") is not None else None
    return Scenario(**found)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


#: Which calls random faults hit, with their weight: those with a lasting effect most.
_OPERATIONS = {
    "ec2.create_fleet": 6,
    "dynamodb.transact_write_items": 8,
    "sns.publish": 5,
    "ec2.terminate_instances": 4,
    "ec2.describe_instances": 4,
    "s3.put_object": 4,
    "s3.get_object": 4,
    "s3.head_object": 3,
    "dynamodb.get_item": 4,
    "dynamodb.query": 2,
    "dynamodb.update_item": 1,
    "ec2.describe_spot_price_history": 2,
    "ec2.create_tags": 1,
    "s3.list_objects_v2": 1,
    "events.put_events": 1,
}
_BOX_FAULTS = (
    "dead on arrival",
    "user data fails",
    "hangs",
    "stands still",
    "fails for good",
    "fails, may do better elsewhere",
    "marker with a wrong hash",
    "marker of another job",
    "marker malformed",
    "marker before its files",
    "dies",
    "is terminated by a person",
    "is stopped",
    "no timer",
    "host fails at its end",
)


def random_scenario(seed: int) -> Scenario:
    """The scenario of a seed: most are mildly unlucky, a few are terrible."""
    scenario, rng = _scenario(seed), random.Random(f"gpus {seed}")
    return _with_gpus(rng, scenario) if rng.random() < 0.08 else scenario


def _with_gpus(rng: random.Random, scenario: Scenario) -> Scenario:
    """The same, with jobs long enough for a GPU to be idle in, and boxes that tell of theirs."""
    long = {"steps": 80, "step_s": 14.0, "max_runtime_s": 3600, "budget_usd": 20.0, "deadline_s": None, "actions": ()}
    jobs = tuple(replace(job, **long, stops_idle=rng.random() < 0.7) for job in scenario.jobs)
    boxes = [
        replace(box, gpus=(count := rng.choice((1, 1, 2))), idle_gpus=rng.randint(0, count), idle_s=rng.choice((0.0, rng.uniform(0, 250))))
        for box in scenario.boxes
    ]
    return replace(scenario, jobs=jobs, boxes=tuple(boxes))


def _scenario(seed: int) -> Scenario:
    rng = random.Random(f"scenario {seed}")
    badness = rng.choice((0.15, 0.4, 0.4, 0.8, 1.5))

    def some(most: int) -> int:
        return sum(rng.random() < badness / 3 for _ in range(most))

    jobs = tuple(_job(rng, badness, n) for n in range(rng.choice((1, 1, 1, 2, 2, 3))))
    operations, weights = list(_OPERATIONS), list(_OPERATIONS.values())
    theme = rng.random()
    if theme < 0.04:
        return _forsaken(rng, jobs)
    if theme < 0.10:
        return _churning(rng)
    if theme < 0.13:
        return _too_many(rng, jobs)
    return Scenario(
        jobs=jobs,
        boxes=tuple(_box(rng, badness) for _ in range(3 + 2 * len(jobs))),
        calls=tuple(CallFault(rng.choices(operations, weights)[0], int(rng.expovariate(0.15)), rng.choice((*CALL_FAULTS, LATE))) for _ in range(some(12))),
        storms=tuple(
            Storm(
                start := rng.uniform(0, 900),
                start + rng.uniform(30, 600),
                rng.choice(("ec2", "dynamodb", "s3", "sns")),
                rng.choice((*CALL_FAULTS, LATE)),
                rng.uniform(0.1, 1),
            )
            for _ in range(some(2))
        ),
        events=tuple(
            EventFault(
                rng.choice(("aws.ec2", "aws.ec2", "aws.s3", "aws.sns", "dropforge.budget")),
                int(rng.expovariate(0.3)),
                rng.choice((0, 0, 1, 2, 5)),
                rng.choice((0.0, 30.0, 400.0, 2000.0)),
            )
            for _ in range(some(8))
        ),
        droughts=tuple(
            Drought(
                start := rng.choice((0.0, rng.uniform(0, 900))),
                start + rng.uniform(60, 1500),
                rng.choice(("spot", "spot", "on-demand")),
                rng.choice(
                    (
                        "InsufficientInstanceCapacity",
                        "MaxSpotInstanceCountExceeded",
                        "UnfulfillableCapacity",
                        "RequestLimitExceeded",
                        "Unsupported",
                        "NobodyListedThis",
                    )
                ),
                rng.choice(("", "", "g5.xlarge", "us-east-1a")),
            )
            for _ in range(some(2))
        ),
        outages=tuple(
            Outage(start := rng.uniform(0, 900), start + rng.uniform(60, 1800), rng.choice(("tick", "curfew", "events", "ledger"))) for _ in range(some(2))
        ),
        too_many=tuple(n for n in range(4) if rng.random() < badness / 30),
        max_concurrent_jobs=rng.choice((1, 1, 2, 5)),
        latency_s=rng.choice((0.05, 0.05, 0.5, 4.0)),
        index_lag_s=rng.choice((0.0, 0.0, 1.0, 30.0)),
        skew_s=rng.choice((0.0, 0.0, 1.0)),
        forgotten_s=rng.choice((3600.0, 600.0, 120.0)),
        deploy_s=rng.uniform(0, 600) if rng.random() < 0.15 else None,
        strangers=rng.random() < 0.15,
    )


def _forsaken(rng: random.Random, jobs: tuple[JobPlan, ...]) -> Scenario:
    """A box that nobody stops: its own timer is not set, it does not finish, and the tick may be dead when its time is up."""
    stuck = tuple(replace(job, max_runtime_s=600, deadline_s=None, max_attempts=2, actions=(), valid=True) for job in jobs)
    start_s = rng.uniform(60, 600)
    tick_is_dead = rng.random() < 0.7
    return Scenario(
        jobs=stuck,
        boxes=tuple(BoxPlan(fault=rng.choice(("no timer", "no timer", "hangs", "stands still")), at_s=rng.uniform(0, 200)) for _ in range(4)),
        outages=(Outage(start_s, start_s + rng.uniform(1200, 3000), "tick"),) if tick_is_dead else (),
        max_concurrent_jobs=rng.choice((1, 5)),
    )


def _churning(rng: random.Random) -> Scenario:
    """A job that is taken back again and again before it saved: only its limits end it."""
    job = JobPlan(
        steps=80,
        step_s=14.0,
        save_every_s=rng.choice((60.0, 2000.0)),
        max_runtime_s=rng.choice((900, 3600)),
        max_attempts=12,
        budget_usd=rng.choice((0.05, 0.06, 0.1, 20.0)),
    )
    if rng.random() < 0.5:
        return Scenario(jobs=(replace(job, save_every_s=60.0),), boxes=tuple(BoxPlan(fault="dies", at_s=rng.uniform(100, 300)) for _ in range(12)))
    plain = BoxPlan(notice_s=rng.choice((0.0, 0.0, 120.0)), save_s=10.0)
    return Scenario(jobs=(job,), boxes=tuple(replace(plain, interrupted_s=rng.uniform(150, 350)) for _ in range(12)))


def _too_many(rng: random.Random, jobs: tuple[JobPlan, ...]) -> Scenario:
    """EC2 starts one too many, and the call that ends it fails."""
    kinds = (*CALL_FAULTS, LATE)
    calls = [CallFault("ec2.terminate_instances", n, rng.choice(kinds)) for n in range(2) if rng.random() < 0.7]
    calls += [CallFault("ec2.create_fleet", 0, rng.choice(kinds))] if rng.random() < 0.3 else []
    boxes = tuple(BoxPlan(fault="dead on arrival" if n == 1 else "", hidden_s=rng.choice((0.0, 70.0))) for n in range(4))
    return Scenario(jobs=jobs, boxes=boxes, too_many=(0, 1), calls=tuple(calls), latency_s=rng.choice((0.05, 2.0)))


def _job(rng: random.Random, badness: float, n: int) -> JobPlan:
    steps, step_s = rng.randint(5, 50), rng.uniform(4, 14)
    needs_s = steps * step_s
    actions: list[tuple[float, str]] = []
    if rng.random() < badness / 4:
        actions.append((rng.choice((0.05, 1.0, rng.uniform(0, 900))), "delete"))
    if rng.random() < badness / 5:
        actions.append((rng.uniform(0, 900), rng.choice(("put again", "overwrite", "spoil", "delete"))))
    tight = rng.random()
    return JobPlan(
        put_s=rng.uniform(0, 200) * n,
        steps=steps,
        step_s=step_s,
        save_every_s=rng.uniform(30, 300),
        market=rng.choice(("spot", "spot", "cheapest", "on-demand")),
        priority=rng.choice(("normal", "normal", "high", "low")),
        max_runtime_s=int(max(600, needs_s * 0.8)) if tight < 0.15 else 3600,
        max_attempts=rng.choice((2, 4, 8)),
        max_wait_s=rng.choice((300, 1800, 5400)),
        budget_usd=0.05 if 0.15 < tight < 0.3 else 20.0,
        deadline_s=int(rng.uniform(400, 1500)) if rng.random() < 0.15 else None,
        notify=tuple(kind for kind in ("accepted", "interrupted", "relaunched", "waiting", "budget") if rng.random() < 0.2),
        actions=tuple(sorted(actions)),
        key_of=0 if n and rng.random() < 0.15 else -1,
        valid=rng.random() > 0.04,
    )


def _box(rng: random.Random, badness: float) -> BoxPlan:
    return BoxPlan(
        boot_s=rng.uniform(10, 90),
        fault=rng.choice(_BOX_FAULTS) if rng.random() < badness / 4 else "",
        at_s=rng.uniform(0, 400),
        interrupted_s=rng.uniform(1, 700) if rng.random() < 0.25 + badness / 4 else None,
        notice_s=rng.choice((0.0, 39.0, 120.0, 120.0)),
        event=rng.random() > badness / 5,
        imds=rng.random() > 0.1 + badness / 5,
        save_s=rng.uniform(2, 60),
        hidden_s=rng.choice((0.0, 0.0, 0.0, 5.0, 70.0, 200.0)) if badness > 0.3 else 0.0,
        ending_s=rng.choice((5.0, 20.0, 60.0, 600.0)),
    )


def _changed(scenario: Scenario, changes: dict[str, Any]) -> Scenario:
    return replace(scenario, **changes)


def without(scenario: Scenario) -> list[Scenario]:
    """Every scenario that has one part less: what shrinking tries, largest parts first."""
    smaller: list[Scenario] = []
    for name in ("jobs", "storms", "droughts", "outages", "calls", "events", "boxes", "too_many"):
        parts = getattr(scenario, name)
        if name == "jobs" and len(parts) == 1:
            continue
        if name == "boxes":
            # The order of boxes matters: a box is made ordinary, not taken away.
            smaller += [replace(scenario, boxes=(*parts[:n], BoxPlan(), *parts[n + 1 :])) for n in range(len(parts)) if parts[n] != BoxPlan()]
        else:
            smaller += [_changed(scenario, {name: (*parts[:n], *parts[n + 1 :])}) for n in range(len(parts))]
    plain = Scenario()
    for name in ("max_concurrent_jobs", "latency_s", "index_lag_s", "skew_s", "deploy_s", "strangers"):
        if getattr(scenario, name) != getattr(plain, name):
            smaller.append(_changed(scenario, {name: getattr(plain, name)}))
    for n, job in enumerate(scenario.jobs):
        for change in ({"actions": ()}, {"notify": ()}, {"deadline_s": None}, {"market": "spot"}, {"priority": "normal"}):
            if any(getattr(job, key) != value for key, value in change.items()):
                smaller.append(replace(scenario, jobs=(*scenario.jobs[:n], replace(job, **change), *scenario.jobs[n + 1 :])))
    return smaller
