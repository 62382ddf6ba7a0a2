"""What happens in a run, as data: jobs, boxes, the market, faults. A scenario and a seed give one trace, always the same.

A scenario is JSON, so that a failing one can be shrunk part by part, kept for ever and replayed (``tests/simulation/pinned``).
"""

import json
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
    #: (seconds, what): delete, put again (the same text), overwrite (another text), spoil (an unreadable text),
    #: cancel one (of a sweep's or a schedule's jobs), cancel a later one (of a sweep's, that is not started)
    actions: tuple[tuple[float, str], ...] = ()
    #: Index of the job whose key this one uses; -1 for its own.
    key_of: int = -1
    valid: bool = True
    #: Index of the job that it is to follow, -1 for none; and what it takes over from it.
    after: int = -1
    use: str = "adapter"
    #: Jobs of a sweep, so many at a time, for so much in all; 0 for an ordinary job.
    sweep: int = 0
    concurrency: int = 2
    sweep_usd: float = 50.0
    mails: str = "sweep"
    #: Hours in which a schedule puts such a job each hour; 0 for none.
    hours: int = 0
    #: Whether its manifest wants it stopped once every GPU was idle for five minutes.
    stops_idle: bool = False
    #: Instances that train together.
    nodes: int = 1


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
    #: Only pools of this instance type, zone or region; empty for every pool of the market.
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
    #: The same for gangs, with one too few: the reference says that it does not.
    too_few: tuple[int, ...] = ()
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
    #: The project has a stack in a second region, and every job may run in both.
    two_regions: bool = False

    @property
    def healed_s(self) -> float:
        """From here on nothing is broken any more."""
        return max(
            (
                0.0,
                *(s.end_s for s in self.storms),
                *(d.end_s for d in self.droughts),
                *(o.end_s for o in self.outages),
                *(e.delay_s for e in self.events if e.copies),
            )
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
    found |= {name: tuple(found.get(name, ())) for name in ("too_many", "too_few")}
    found["hints"] = tuple(found["hints"]) if found.get("hints") is not None else None
    return Scenario(**found)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


def _changed(scenario: Scenario, changes: dict[str, Any]) -> Scenario:
    return replace(scenario, **changes)


def without(scenario: Scenario) -> list[Scenario]:
    """Every scenario that has one part less: what shrinking tries, largest parts first."""
    smaller: list[Scenario] = []
    for name in ("jobs", "storms", "droughts", "outages", "calls", "events", "boxes", "too_many", "too_few"):
        parts = getattr(scenario, name)
        if name == "jobs" and len(parts) == 1:
            continue
        if name == "boxes":
            # The order of boxes matters: a box is made ordinary, not taken away.
            smaller += [replace(scenario, boxes=(*parts[:n], BoxPlan(), *parts[n + 1 :])) for n in range(len(parts)) if parts[n] != BoxPlan()]
        else:
            smaller += [_changed(scenario, {name: (*parts[:n], *parts[n + 1 :])}) for n in range(len(parts))]
    plain = Scenario()
    for name in ("max_concurrent_jobs", "latency_s", "index_lag_s", "skew_s", "deploy_s", "strangers", "two_regions"):
        if getattr(scenario, name) != getattr(plain, name):
            smaller.append(_changed(scenario, {name: getattr(plain, name)}))
    for n, job in enumerate(scenario.jobs):
        for change in (
            {"after": -1},
            {"sweep": 0},
            {"hours": 0},
            {"actions": ()},
            {"notify": ()},
            {"deadline_s": None},
            {"market": "spot"},
            {"priority": "normal"},
            {"nodes": 1},
        ):
            if any(getattr(job, key) != value for key, value in change.items()):
                smaller.append(replace(scenario, jobs=(*scenario.jobs[:n], replace(job, **change), *scenario.jobs[n + 1 :])))
    return smaller
