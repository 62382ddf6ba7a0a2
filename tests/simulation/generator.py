"""Scenarios by the number: what a seed's world holds.

Most worlds are small and quick: one job, a few short minutes, a fault or two, for there most bugs show already, and a small
world takes a tenth of a large one's time. Some are as large and as slow as a bad day, for the limits that only hours reach.
"""

import random
from dataclasses import dataclass, replace
from typing import Any

from tests.simulation.aws.account import HOME
from tests.simulation.scenario import CALL_FAULTS, LATE, BoxPlan, CallFault, Drought, EventFault, JobPlan, Outage, Scenario, Storm

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
_REFUSALS = (
    "InsufficientInstanceCapacity",
    "MaxSpotInstanceCountExceeded",
    "UnfulfillableCapacity",
    "RequestLimitExceeded",
    "Unsupported",
    "NobodyListedThis",
)
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


#: How much of a bad day's time a world takes, and how many of a hundred do.
_PACES, _OF_A_HUNDRED = (0.12, 0.35, 1.0), (84, 12, 4)


@dataclass(frozen=True)
class _Mood:
    """``badness``: how unlucky a world is, from 0.15 to 1.5. ``pace``: its times as a part of a bad day's."""

    rng: random.Random
    badness: float
    pace: float

    def some(self, most: int) -> range:
        return range(sum(self.rng.random() < self.badness / 3 for _ in range(most)))

    def until(self, low_s: float, high_s: float) -> float:
        """A time between: in a quick world seldom far beyond ``low_s``."""
        return self.rng.uniform(low_s, low_s + self.pace * (high_s - low_s))

    def slow(self, common: tuple[float, ...], *rare: float) -> float:
        """One of those; the rare ones on a bad day only, for the whole world waits for them."""
        return self.rng.choice((*common, *rare) if self.pace == 1.0 else common)


def _mood(rng: random.Random) -> _Mood:
    return _Mood(rng, rng.choice((0.15, 0.4, 0.4, 0.8, 1.5)), rng.choices(_PACES, _OF_A_HUNDRED)[0])


def random_scenario(seed: int) -> Scenario:
    """The scenario of a seed: most are mildly unlucky, a few are terrible."""
    rng = random.Random(f"abroad {seed}")
    if rng.random() < 0.025:
        return _abroad(_mood(rng))
    return _with_regions(random.Random(f"regions {seed}"), _at_home(seed))


def _at_home(seed: int) -> Scenario:
    scenario, rng = _scenario(seed), random.Random(f"gpus {seed}")
    if rng.random() < 0.015:
        return _with_gpus(rng, scenario)
    relatives = random.Random(f"kin {seed}")
    kind = relatives.random()
    if kind < 0.05:
        return _chained(relatives, scenario) if kind < 0.02 else _swept(relatives, scenario) if kind < 0.04 else _scheduled(relatives, scenario)
    rng = random.Random(f"gangs {seed}")
    return _with_gangs(rng, scenario) if rng.random() < 0.06 else scenario


def _with_gangs(rng: random.Random, scenario: Scenario) -> Scenario:
    """The same, with jobs of several instances. One unlucky box spoils a gang, so each stands among ordinary ones."""
    jobs = tuple(replace(job, nodes=rng.choice((2, 2, 3))) for job in scenario.jobs)
    boxes = []
    for box in scenario.boxes:
        some = [box, *(BoxPlan(boot_s=rng.uniform(5, 60), save_s=rng.uniform(2, 60)) for _ in range(rng.choice((1, 2))))]
        rng.shuffle(some)
        boxes += some
    # A look reads a heartbeat of each instance: at four seconds a call no function would end in its minute (seed 16923 of 2026-11-25).
    latency_s = min(scenario.latency_s, 0.5)
    return replace(scenario, jobs=jobs, boxes=tuple(boxes), latency_s=latency_s, too_few=(0,) if rng.random() < 0.1 else ())


def _with_regions(rng: random.Random, scenario: Scenario) -> Scenario:
    """The same with a second region in one world of twelve, where the first one often runs dry and SSM has bad moments."""
    if rng.random() >= 1 / 12:
        return scenario
    dry = tuple(
        Drought(start := rng.uniform(0, 400), start + rng.uniform(60, 900), market, rng.choice(_REFUSALS[:3]), where)
        for market, where in (("spot", HOME), ("on-demand", HOME), ("spot", "us-west-2"))
        if rng.random() < 0.7
    )
    faults = tuple(CallFault("ssm.get_parameter", int(rng.expovariate(0.5)), rng.choice((*CALL_FAULTS, LATE))) for _ in range(rng.choice((0, 0, 1, 2))))
    return replace(scenario, two_regions=True, droughts=scenario.droughts + dry, calls=scenario.calls + faults)


def _abroad(mood: _Mood) -> Scenario:
    """Nothing is to be had at home, so that a job's first instance is in the second region: what is done to it there is what matters."""
    rng = mood.rng
    dry_s = rng.choice((20.0, rng.uniform(20, 900)))
    plain = Scenario(
        jobs=(replace(_job(mood, 0), valid=True, market="spot", actions=(), deadline_s=None, max_runtime_s=3600),),
        boxes=tuple(BoxPlan(boot_s=mood.until(5, 60), save_s=rng.uniform(2, 60), ending_s=rng.choice((2.0, 20.0))) for _ in range(4)),
        droughts=(Drought(0.0, dry_s, "spot", "InsufficientInstanceCapacity", HOME),),
        latency_s=rng.choice((0.05, 0.05, 0.5)),
        two_regions=True,
    )
    (job,), (box, *others) = plain.jobs, plain.boxes
    what = rng.choice(("as it comes", "cancelled", "nobody stops it", "nobody knows of it", "taken back"))
    if what == "cancelled":
        return replace(plain, jobs=(replace(job, steps=60, actions=((rng.uniform(20, 300), "delete"),)),))
    if what == "nobody stops it":
        start_s = rng.uniform(30, 100)
        outages = tuple(Outage(start_s, start_s + rng.uniform(1200, 3000), part) for part in ("tick", "events"))
        return replace(plain, jobs=(replace(job, steps=100, step_s=14.0, max_runtime_s=120),), boxes=(replace(box, fault="no timer"), *others), outages=outages)
    if what == "nobody knows of it":
        # Unseen for longer than an instance is waited for, which EC2 is not known to do: nothing else may go wrong here.
        call = CallFault("ec2.create_fleet", 1, "effect, then unknown outcome")
        return replace(
            plain,
            jobs=(replace(job, actions=((rng.uniform(2, 20), "delete"),)),),
            boxes=(replace(box, fault="dead on arrival", hidden_s=rng.uniform(700, 900)), *others),
            calls=(call,),
            latency_s=0.05,
        )
    if what == "taken back":
        # The one region has none for long, the other soon none either: what refused is not asked again and again.
        again = Drought(start := rng.uniform(0, 60), start + rng.uniform(600, 3000), "spot", "InsufficientInstanceCapacity", rng.choice((HOME, "us-west-2")))
        return replace(
            plain, boxes=(replace(box, interrupted_s=rng.uniform(20, 200), notice_s=rng.choice((0.0, 39.0, 120.0))), *others), droughts=(*plain.droughts, again)
        )
    return replace(
        plain, calls=tuple(CallFault(rng.choice(tuple(_OPERATIONS)), int(rng.expovariate(0.3)), rng.choice((*CALL_FAULTS, LATE))) for _ in mood.some(4))
    )


def _with_gpus(rng: random.Random, scenario: Scenario) -> Scenario:
    """The same, with jobs long enough for a GPU to be idle in, and boxes that tell of theirs."""
    long: dict[str, Any] = {"steps": 60, "step_s": 14.0, "max_runtime_s": 3600, "budget_usd": 20.0, "deadline_s": None, "actions": ()}
    jobs = tuple(replace(job, **long, stops_idle=rng.random() < 0.7) for job in scenario.jobs)
    boxes = [
        replace(box, gpus=(count := rng.choice((1, 1, 2))), idle_gpus=rng.randint(0, count), idle_s=rng.choice((0.0, rng.uniform(0, 250))))
        for box in scenario.boxes
    ]
    return replace(scenario, jobs=jobs, boxes=tuple(boxes))


def _chained(rng: random.Random, scenario: Scenario) -> Scenario:
    """The same, with two or three jobs that follow one another, put in any order."""
    count = rng.choice((2, 2, 3))
    jobs = [replace(scenario.jobs[n % len(scenario.jobs)], put_s=rng.choice((0.0, rng.uniform(0, 60))), key_of=-1) for n in range(count)]
    chained = tuple(
        replace(job, after=n - 1 if n else -1, use=rng.choice(("adapter", "adapter", "nothing")), actions=job.actions if rng.random() < 0.5 else ())
        for n, job in enumerate(jobs)
    )
    return replace(scenario, jobs=chained)


def _scheduled(rng: random.Random, scenario: Scenario) -> Scenario:
    """The same, its first job put by a schedule for some hours; some of its jobs are long, so that times are skipped."""
    first, at_s = scenario.jobs[0], rng.uniform(60, 9000)
    changes = ((at_s, rng.choice(("delete", "put again", "overwrite", "cancel one"))),) if rng.random() < 0.3 else ()
    long: dict[str, Any] = {"steps": 200, "step_s": 25.0, "max_runtime_s": 9000} if rng.random() < 0.3 else {}
    job = replace(first, hours=rng.randint(1, 4), deadline_s=None, actions=changes, **long)
    return replace(scenario, jobs=(job,), boxes=scenario.boxes * 3)


def _swept(rng: random.Random, scenario: Scenario) -> Scenario:
    """The same, its first job a sweep of some, with money for all of them or for a few."""
    first, at_s = scenario.jobs[0], rng.uniform(1, 200)
    again = ((at_s, "delete"), (at_s + rng.uniform(0.1, 60), "put again")) if rng.random() < 0.25 else first.actions
    sweep = replace(
        first,
        actions=again,
        sweep=rng.randint(2, 5),
        concurrency=rng.randint(1, 3),
        sweep_usd=rng.choice((50.0, 0.05, 0.12)),
        mails=rng.choice(("sweep", "sweep", "each")),
        budget_usd=20.0,
    )
    most = rng.choice((1, 2, 5))
    if rng.random() < 0.3:
        sweep = replace(sweep, actions=tuple(sorted((*sweep.actions, (rng.uniform(1, 300), rng.choice(("cancel one", "cancel a later one")))))))
    return replace(scenario, jobs=(sweep, *scenario.jobs[1:]), max_concurrent_jobs=most)


def _scenario(seed: int) -> Scenario:
    rng = random.Random(f"scenario {seed}")
    mood = _mood(rng)
    jobs = tuple(_job(mood, n) for n in range(int(mood.slow((1, 1, 1, 1, 1, 1, 2), 2, 3, 3, 5))))
    theme = rng.random()
    if theme < 0.015:
        return _forsaken(rng, jobs)
    if theme < 0.025:
        return _churning(rng)
    if theme < 0.04:
        return _too_many(rng, jobs)
    if theme < 0.07:
        return _returning(mood)
    if theme < 0.075:
        return _put_twice(mood)
    operations, weights = list(_OPERATIONS), list(_OPERATIONS.values())
    return Scenario(
        jobs=jobs,
        boxes=tuple(_box(mood) for _ in range(3 + 2 * len(jobs))),
        calls=tuple(
            CallFault(rng.choices(operations, weights)[0], int(rng.expovariate(0.15 if mood.pace == 1.0 else 0.3)), rng.choice((*CALL_FAULTS, LATE)))
            for _ in mood.some(12)
        ),
        storms=tuple(
            Storm(
                start := mood.until(0, 900),
                start + mood.until(30, 600),
                rng.choice(("ec2", "dynamodb", "s3", "sns")),
                rng.choice((*CALL_FAULTS, LATE)),
                rng.uniform(0.1, 1),
            )
            for _ in mood.some(2)
        ),
        events=tuple(
            EventFault(
                rng.choice(("aws.ec2", "aws.ec2", "aws.s3", "aws.sns", "dropforge.budget")),
                int(rng.expovariate(0.3)),
                rng.choice((0, 0, 1, 2, 5)),
                mood.slow((0.0, 30.0, 30.0, 400.0), 400.0, 2000.0),
            )
            for _ in mood.some(8)
        ),
        droughts=tuple(
            Drought(
                start := rng.choice((0.0, mood.until(0, 900))),
                start + mood.until(60, 1500),
                rng.choice(("spot", "spot", "on-demand")),
                rng.choice(_REFUSALS),
                rng.choice(("", "", "g5.xlarge", "us-east-1a")),
            )
            for _ in mood.some(2)
        ),
        outages=tuple(
            Outage(start := mood.until(0, 900), start + mood.until(60, 1800), rng.choice(("tick", "curfew", "events", "ledger"))) for _ in mood.some(2)
        ),
        too_many=tuple(n for n in range(4) if rng.random() < mood.badness / 30),
        max_concurrent_jobs=rng.choice((1, 1, 2, 5)),
        latency_s=rng.choice((0.05, 0.05, 0.05, 0.05, 0.5, 0.5, 0.5, 4.0)),
        index_lag_s=rng.choice((0.0, 0.0, 1.0, 30.0)),
        skew_s=rng.choice((0.0, 0.0, 1.0)),
        forgotten_s=rng.choice((3600.0, 600.0, 120.0, 30.0)),
        deploy_s=mood.until(0, 600) if rng.random() < 0.15 else None,
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


def _returning(mood: _Mood) -> Scenario:
    """Spot is out at first, so on-demand is taken; once spot is back, it relieves the on-demand instance, and may be lost at any moment of that."""
    rng = mood.rng
    steps, step_s = rng.randint(60, 120), rng.uniform(20, 40)
    job = JobPlan(
        steps=steps,
        step_s=step_s,
        save_every_s=rng.uniform(60, 600),
        market="cheapest",
        max_runtime_s=14400,
        max_attempts=rng.choice((6, 12)),
        deadline_s=rng.choice((None, None, int(steps * step_s + rng.uniform(2000, 9000)))),
        actions=((rng.uniform(300, 2500), "delete"),) if rng.random() < mood.badness / 8 else (),
    )
    kinds = (*CALL_FAULTS, LATE)
    boxes = [replace(_box(mood), boot_s=rng.uniform(10, 600), interrupted_s=rng.choice((None, rng.uniform(1, 2500)))) for _ in range(10)]
    if rng.random() < 0.4:
        # One that falls silent about when it is to hand over: somebody else must end it.
        boxes[0] = replace(boxes[0], fault="hangs", at_s=rng.uniform(0, 1500))
    return Scenario(
        jobs=(job,),
        boxes=tuple(boxes),
        droughts=(Drought(0.0, rng.uniform(1, 900), "spot", "InsufficientInstanceCapacity"),),
        calls=tuple(
            CallFault(
                rng.choice(("ec2.create_fleet", "s3.put_object", "ec2.terminate_instances", "dynamodb.transact_write_items")),
                rng.randint(0, 12),
                rng.choice(kinds),
            )
            for _ in range(rng.choice((0, 0, 1, 2)))
        ),
        latency_s=rng.choice((0.05, 0.05, 4.0)),
    )


def _put_twice(mood: _Mood) -> Scenario:
    """A manifest is put again within the second, and the event of that is lost: only the census can find it."""
    again = (mood.rng.uniform(0.2, 0.95), mood.rng.choice(("overwrite", "spoil", "put again")))
    return Scenario(jobs=(replace(_job(mood, 0), valid=True, actions=(again,)),), events=(EventFault("aws.s3", 1, 0),))


def _too_many(rng: random.Random, jobs: tuple[JobPlan, ...]) -> Scenario:
    """EC2 starts one too many, and the call that ends it fails."""
    kinds = (*CALL_FAULTS, LATE)
    calls = [CallFault("ec2.terminate_instances", n, rng.choice(kinds)) for n in range(2) if rng.random() < 0.7]
    calls += [CallFault("ec2.create_fleet", 0, rng.choice(kinds))] if rng.random() < 0.3 else []
    boxes = tuple(BoxPlan(fault="dead on arrival" if n == 1 else "", hidden_s=rng.choice((0.0, 70.0))) for n in range(4))
    return Scenario(jobs=jobs, boxes=boxes, too_many=(0, 1), calls=tuple(calls), latency_s=rng.choice((0.05, 2.0)))


def _job(mood: _Mood, n: int) -> JobPlan:
    rng, badness = mood.rng, mood.badness
    steps, step_s = round(mood.until(3, 50)), rng.uniform(4, 14)
    actions: list[tuple[float, str]] = []
    if rng.random() < badness / 4:
        actions.append((rng.choice((0.05, 1.0, mood.until(0, 900))), "delete"))
    if rng.random() < badness / 5:
        actions.append((rng.choice((0.6, mood.until(0, 900))), rng.choice(("put again", "overwrite", "spoil", "delete"))))
    tight = rng.random()
    return JobPlan(
        put_s=mood.until(0, 200) * n,
        steps=steps,
        step_s=step_s,
        save_every_s=mood.until(15, 300),
        market=rng.choice(("spot", "spot", "cheapest", "on-demand")),
        priority=rng.choice(("normal", "normal", "high", "low")),
        max_runtime_s=int(max(mood.until(150, 600), steps * step_s * 0.8)) if tight < 0.15 else 3600,
        max_attempts=rng.choice((2, 4, 8)),
        max_wait_s=int(mood.slow((300, 1800), 5400)),
        budget_usd=0.05 if 0.15 < tight < 0.3 else 20.0,
        deadline_s=int(mood.until(200, 1500)) if rng.random() < 0.15 else None,
        notify=tuple(kind for kind in ("accepted", "interrupted", "relaunched", "waiting", "budget") if rng.random() < 0.2),
        actions=tuple(sorted(actions)),
        key_of=0 if n and rng.random() < 0.15 else -1,
        valid=rng.random() > 0.04,
    )


def _box(mood: _Mood) -> BoxPlan:
    rng, badness = mood.rng, mood.badness
    return BoxPlan(
        boot_s=mood.until(5, 90),
        fault=rng.choice(_BOX_FAULTS) if rng.random() < badness / 4 else "",
        at_s=mood.until(0, 400),
        interrupted_s=mood.until(1, 700) if rng.random() < 0.25 + badness / 4 else None,
        notice_s=rng.choice((0.0, 39.0, 120.0, 120.0)),
        event=rng.random() > badness / 5,
        imds=rng.random() > 0.1 + badness / 5,
        save_s=rng.uniform(2, 60),
        hidden_s=rng.choice((0.0, 0.0, 0.0, 5.0, 70.0, 200.0)) if badness > 0.3 else 0.0,
        ending_s=mood.slow((5.0, 20.0, 60.0), 600.0),
    )
