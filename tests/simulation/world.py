"""One run: the real handlers over the in-memory AWS, events on their way, users, instances, and what goes wrong.

``Lambda`` runs each invocation as a process that gives up its turn before and after every AWS call. So two drivers of one
job interleave, a call lands after its caller has given up, and a function dies between any two calls.
"""

import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import ClientError
from greenlet import getcurrent

from control_plane.core import sweeps
from control_plane.core.accept import job_id_of
from control_plane.core.state import Job, ManifestRef
from control_plane.handlers import budget, completion, curfew, instance_state, interruption, publish_ledger, reconcile, submit
from control_plane.handlers.rooms import Rooms
from control_plane.settings import Settings
from jobspec import keys, tags
from jobspec.children import child_id
from jobspec.ticket import Ticket
from tests.planning.architectures import TINY_LLAMA
from tests.simulation import records
from tests.simulation.aws import Account, aws_error, lost_answer
from tests.simulation.aws.account import HOME
from tests.simulation.aws.ec2 import Instance
from tests.simulation.box import IDLE_WINDOW_S, Box
from tests.simulation.checks import Checks, Violation
from tests.simulation.scenario import CRASH_AFTER, CRASH_BEFORE, LATE, THROTTLED, UNKNOWN, BoxPlan, JobPlan, Scenario
from tests.simulation.scheduler import Scheduler

START = datetime(2026, 11, 1, 12, 0, 30, tzinfo=UTC)
PROJECT, DATA, OUTPUTS, TABLE = "proj", "data-bucket", "outputs-bucket", "jobs"
FUNCTION_TIMEOUT_S = 60.0
#: Lambda's own retries of an asynchronous invocation: after one minute, and after two more.
RETRIES_S = (60.0, 120.0)
#: In one world of so many the jobs' models can be planned for.
_PLANNED = 4
#: The second region, where a scenario has one.
PEER = "us-west-2"
HORIZON_S = 8 * 3600.0
HANDLES: dict[str, Any] = {
    "submit": submit.handle,
    "interruption": interruption.handle,
    "instance_state": instance_state.handle,
    "completion": completion.handle,
    "reconcile": reconcile.handle,
    "budget": budget.handle,
    "publish_ledger": publish_ledger.handle,
    "curfew": curfew.handle,
}
_THROTTLE = {
    "ec2": "RequestLimitExceeded",
    "ssm": "ThrottlingException",
    "s3": "SlowDown",
    "dynamodb": "ThrottlingException",
    "sns": "ThrottlingException",
    "events": "ThrottlingException",
}


class Died(BaseException):
    """The function's process is over: not an Exception, so that no code of the function sees it as an error to handle."""


@dataclass(slots=True)
class Invocation:
    function: str
    number: int
    started_s: float
    skew_s: float
    calls: int = 0
    dead: bool = False


class World:
    """``trace()`` is the time line, ``digest()`` stands for it."""

    def __init__(self, scenario: Scenario, seed: int) -> None:
        self.scenario, self.seed = scenario, seed
        self.scheduler = Scheduler()
        self.rng = random.Random(f"time {seed}")
        self._clock_read = (0.0, START)
        # The first of two faults for one call is the one that counts.
        self._call_faults = {(fault.operation, fault.nth): fault.kind for fault in reversed(scenario.calls)}
        self._notes: list[tuple[float, str, str]] = []
        self.account = Account(self.clock, project=PROJECT)
        self.data_bucket, self.outputs_bucket = DATA, OUTPUTS
        self.account.s3.make_bucket(DATA)
        self.account.s3.make_bucket(OUTPUTS)
        self.account.s3.write(DATA, "models/m/config.json", json.dumps(TINY_LLAMA).encode())
        self.counts: Counter[str] = Counter()
        if scenario.two_regions:
            self.account.ec2.subnets |= {"subnet-w": f"{PEER}a"}
        self.rooms = Rooms(_settings(scenario), self.account.client, self._function_clock, self._count)
        self.invocations: dict[Any, Invocation] = {}
        self.invoked = 0
        self.in_flight = 0
        self.pending_events = 0
        self.dead_letters: list[tuple[str, dict[str, Any]]] = []
        self.redriven = False
        self.boxes: dict[str, Box] = {}
        self.launches = 0
        self.plans: dict[str, JobPlan] = {}
        self.calls: dict[str, int] = {}
        #: Every call in its order: the operation, and how many of it there were before.
        self.made: list[tuple[str, int]] = []
        self.events: dict[str, int] = {}
        self.user_left = 0
        self._hints: list[tuple[str, dict[str, Any]]] = []
        self._hints_told = 0
        self.quiet_ticks = 0
        self.checks = Checks(self)
        self._wire()

    # The run.

    def run(self) -> "World":
        """Run to quiet. Raises Violation."""
        for n, plan in enumerate(self.scenario.jobs):
            self._at(plan.put_s, partial(self._put, n, plan))
            for at_s, what in plan.actions:
                self._at(plan.put_s + at_s, partial(self._user, n, plan, what))
        if self.scenario.deploy_s is not None:
            self._at(self.scenario.deploy_s, self._deploy)
        for drought in self.scenario.droughts:
            self.scheduler.later(drought.start_s, self._dry)
            self.scheduler.later(drought.end_s, self._dry)
        if self.scenario.strangers:
            self._place_stranger()
        self.scheduler.later(20.0, self._tick)
        self.scheduler.later(150.0, self._curfew)
        with records.on_slips(self.seed):
            self.scheduler.run(self._is_over, HORIZON_S)
            self.checks.at_end(self._is_over())
        return self

    def trace(self) -> list[str]:
        return [f"{at:10.2f}  {who:<22} {what}" for at, who, what in self._notes]

    def digest(self) -> str:
        return hashlib.blake2b("".join(self.trace()).encode(), digest_size=16).hexdigest()

    def clock(self) -> datetime:
        now = self.scheduler.now
        if self._clock_read[0] != now:
            self._clock_read = (now, START + timedelta(seconds=now))
        return self._clock_read[1]

    def seconds(self, at: datetime) -> float:
        """A time as seconds of this run."""
        return (at - START).total_seconds()

    def note(self, who: str, what: str) -> None:
        self._notes.append((self.scheduler.now, who, what))

    def fail(self, rule: str, what: str) -> None:
        self.note("VIOLATION", f"{rule}: {what}")
        raise Violation(rule, f"{what} (at {self.scheduler.now:.2f} s)")

    # What boxes ask, and tell.

    def plan_of(self, job_id: str) -> JobPlan:
        plan = self.plans.get(job_id)
        # Another user's text put again under this key keeps the name in it.
        return plan if plan is not None else self.scenario.jobs[int(job_id.split("-")[1])]

    def on_ticket(self, box: Box, ticket: Ticket) -> None:
        rank = f", rank {ticket.gang.rank} of {ticket.gang.size}" if ticket.gang is not None else ""
        self.note(box.instance.instance_id, f"takes its ticket, attempt {ticket.attempt}{rank}")
        self.checks.on_ticket(box, ticket)

    def on_resumed(self, box: Box) -> None:
        self.note(box.instance.instance_id, f"trains from step {box.first_step}")
        self.checks.on_resumed(box)

    # Users.

    def _at(self, at_s: float, work: Callable[[], None]) -> None:
        self.user_left += 1

        def act() -> None:
            self.user_left -= 1
            work()

        self.scheduler.later(at_s, act)

    def _key(self, n: int, plan: JobPlan) -> str:
        return f"jobs/tale-{plan.key_of if plan.key_of >= 0 else n}.yaml"

    def _put(self, n: int, plan: JobPlan, *, text: bytes | None = None, salt: str = "") -> None:
        key = self._key(n, plan)
        name = f"tale-{n}"
        limits: dict[str, Any] = {
            "max_runtime": f"{plan.max_runtime_s}s",
            "max_attempts": plan.max_attempts,
            "max_wait": f"{plan.max_wait_s}s",
            "budget_usd": plan.budget_usd,
        }
        more: dict[str, Any] = {"after": {"job": f"tale-{plan.after}", "use": plan.use, "max_wait": "2h"}} if plan.after >= 0 else {}
        if plan.hours:
            more["schedule"] = {"cron": "0 * * * *", "until": (self.clock() + timedelta(hours=plan.hours)).isoformat()}
        if plan.sweep:
            swept = {"grid": {"training.seed": list(range(plan.sweep))}, "concurrency": plan.concurrency, "budget_usd": plan.sweep_usd, "mails": plan.mails}
            more["sweep"] = swept
            limits["budget_usd"] = min(plan.budget_usd, plan.sweep_usd)
        if plan.deadline_s is not None:
            limits["deadline"] = (self.clock() + timedelta(seconds=plan.deadline_s)).isoformat()
        if plan.stops_idle:
            limits["idle_gpu"] = {"action": "stop", "window": f"{IDLE_WINDOW_S:.0f}s"}
        manifest = {
            "name": name,
            # Of a hub model that nobody knows nothing can be planned: planning is a tenth of a small world's time.
            "model": {"s3": "models/m/"} if self.seed % _PLANNED == 0 else {"hub": "somebody/unheard-of", "revision": "0" * 40},
            "data": {"train": f"data/train{salt}.jsonl"},
            "compute": {"instance_types": ["g5.xlarge", "g6.xlarge"], "market": plan.market}
            | ({"nodes": plan.nodes} if plan.nodes > 1 else {})
            | self._regions(),
            "limits": limits,
            "notify": {"on": list(plan.notify)},
            "priority": plan.priority,
            **more,
        }
        self.account.s3.write(DATA, f"data/train{salt}.jsonl", b'{"text": "a tale"}\n')
        body = text if text is not None else json.dumps(manifest).encode() if plan.valid else b"name: [tale"
        self.note("a user", f"puts {key}")
        version_id = self.account.s3.write(DATA, key, body)
        job_id = job_id_of(name, ManifestRef(bucket=DATA, key=key, version_id=version_id))
        self.plans[job_id] = plan
        self.checks.on_put(key, version_id)

    def _regions(self) -> dict[str, Any]:
        return {"regions": [HOME, PEER]} if self.scenario.two_regions else {}

    def _user(self, n: int, plan: JobPlan, what: str) -> None:
        key = self._key(n, plan)
        match what:
            case "delete":
                if self.account.s3.read(DATA, key) is not None:
                    self.note("a user", f"deletes {key}")
                    self.account.s3.remove(DATA, key)
                    self.checks.on_delete(key)
            case "put again":
                body = self.account.s3.read(DATA, key)
                self._put(n, plan, text=body)
            case "overwrite":
                self._put(n, plan, salt="-2")
            case "spoil":
                self._put(n, plan, text=b"name: [tale")
            case "cancel one":
                self._cancel_one(f"tale-{n}")
            case "cancel a later one":
                self._cancel_unstarted(f"tale-{n}")

    def _cancel_one(self, parent: str) -> None:
        """Of the jobs of a sweep or a schedule the first that is at work."""
        left = sorted(job.job_id for job in self.checks.jobs.values() if job.parent is not None and job.parent.name == parent and not job.ended)
        if left:
            self._withdraw(left[0])

    def _cancel_unstarted(self, sweep: str) -> None:
        """Of the jobs of a sweep the last that is not created."""
        for job in self.checks.jobs.values():
            if job.name == sweep and job.is_sweep and not job.ended and (left := sweeps.unborn(job)):
                self._withdraw(child_id(job.name, job.job_id, left[-1]))

    def _withdraw(self, job_id: str) -> None:
        self.note("a user", f"puts {keys.cancel_key(job_id)}")
        self.account.s3.write(DATA, keys.cancel_key(job_id), b"")
        self.checks.on_withdrawn(job_id)

    def _deploy(self) -> None:
        self.note("a user", "updates the stack: launch template version 2")
        self.account.ec2.template_version = "2"
        self.rooms = Rooms(_settings(self.scenario, template_version="2"), self.account.client, self._function_clock, self._count)

    def _place_stranger(self) -> None:
        for number, marks in ((0xF1, {}), (0xF2, {tags.PROJECT: "another-project", tags.JOB: "tale-0", tags.DEADLINE: "1"})):
            one = Instance(f"i-{number:017x}", "g5.xlarge", "us-east-1a", "spot", marks, self.clock(), 0.3, "1")
            self.account.ec2.place(one)
            for at_s in (30.0, 90.0):
                self.scheduler.later(at_s, partial(self.account.ec2.warn, one.instance_id))

    # AWS.

    def _wire(self) -> None:
        account, scenario = self.account, self.scenario
        account.gate = self._gate
        account.emit = self._emit
        account.later = self.scheduler.later
        account.dynamodb.index_lag_s = lambda: scenario.index_lag_s
        account.dynamodb.on_write = self.checks.on_write
        account.ec2.on_launch = self._launched
        account.ec2.on_change = self._changed
        account.ec2.on_terminate = self.checks.on_terminate
        account.ec2.hidden_for_s = lambda: self._box_plan(self.launches).hidden_s
        account.ec2.terminated_after_s = lambda instance_id: self.boxes[instance_id].plan.ending_s
        self._dry()

    def _box_plan(self, number: int) -> BoxPlan:
        boxes = self.scenario.boxes
        return boxes[number] if number < len(boxes) else BoxPlan()

    def _launched(self, instance: Instance) -> None:
        box = Box(self, instance, self._box_plan(self.launches))
        self.boxes[instance.instance_id] = box
        self.note("EC2", f"starts {instance.instance_id} for {box.job_id} attempt {instance.tags.get(tags.ATTEMPT)} ({instance.market})")
        self.checks.on_launch(instance, extra=self._is_extra(instance))
        self.launches += 1
        box.boot()

    def _changed(self, instance: Instance) -> None:
        self.checks.on_change(instance)
        if not instance.is_live and instance.instance_id in self.boxes:
            self.boxes[instance.instance_id].lost()
        if instance.state == "terminated":
            self.scheduler.later(self.scenario.forgotten_s, lambda: setattr(instance, "forgotten", True))

    def _is_extra(self, instance: Instance) -> bool:
        """EC2 started more for one call than was asked for: beyond that number of that very moment."""
        others = (box.instance for box in self.boxes.values() if box.instance is not instance)
        same = sum(one.client_token == instance.client_token and one.launched_at == instance.launched_at for one in others)
        # One that was born without a tag is told of by its own rule.
        job_id = instance.tags.get(tags.JOB)
        return same >= (self.plan_of(job_id).nodes if job_id is not None else 1)

    def _dry(self) -> None:
        """The market's mood of this moment."""
        ec2, now = self.account.ec2, self.scheduler.now
        ec2.closed = [(d.market, d.where, d.code) for d in self.scenario.droughts if d.start_s <= now < d.end_s]

    def _out(self, part: str) -> bool:
        return any(o.part == part and o.start_s <= self.scheduler.now < o.end_s for o in self.scenario.outages)

    # Events on their way.

    def _emit(self, source: str, kind: str, detail: dict[str, Any]) -> None:
        function, event = _route(source, kind, detail)
        if function is None:
            return
        count = self.events.get(source, 0)
        self.events[source] = count + 1
        if self.scenario.hints is not None and function != "publish_ledger":
            self._hints.append((function, event))
            self._deliver_hints()
            return
        copies, delay_s = 1, 0.0
        for fault in self.scenario.events:
            if fault.source == source and fault.nth == count:
                copies, delay_s = fault.copies, fault.delay_s
        if function == "publish_ledger":
            # SNS retries for weeks: what goes to the ledger comes late, but it comes.
            copies = max(copies, 1)
            if self._out("ledger"):
                delay_s += max(o.end_s for o in self.scenario.outages if o.part == "ledger") - self.scheduler.now
            self.checks.ledger_hurt |= delay_s > 600.0
        elif self._out("events"):
            copies = 0
        if copies != 1 or delay_s:
            self.note("EventBridge", f"{kind} for {function}: {copies} times, {delay_s:.0f} s late")
        for _ in range(copies):
            self.pending_events += 1
            self.scheduler.later(delay_s + self.rng.uniform(0.05, 2.0), lambda: self._deliver(function, event))

    def _deliver_hints(self) -> None:
        """The hints in the scenario's order, each as soon as it has arisen and those before it are delivered."""
        assert self.scenario.hints is not None
        while self._hints_told < len(self.scenario.hints) and self.scenario.hints[self._hints_told] < len(self._hints):
            function, event = self._hints[self.scenario.hints[self._hints_told]]
            self._hints_told += 1
            self.pending_events += 1
            self.scheduler.later(0.5, partial(self._deliver, function, event))

    def _deliver(self, function: str, event: dict[str, Any]) -> None:
        self.pending_events -= 1
        self.invoke(function, event)

    def _tick(self) -> None:
        # Settled by what has come so far; the two ticks after it must find nothing to do.
        self.quiet_ticks = self.quiet_ticks + 1 if self._is_quiet() else 0
        if self.quiet_ticks == 1 and self.dead_letters:
            self._redrive()
        self.scheduler.later(60.0, self._tick)
        if not self._out("tick"):
            self.invoke("reconcile", {"source": "aws.events"})
        self.checks.each_minute()

    def _curfew(self) -> None:
        self.scheduler.later(300.0, self._curfew)
        if not self._out("curfew"):
            self.invoke("curfew", {"source": "aws.scheduler"})

    def _redrive(self) -> None:
        """A person puts every dead letter again, twice; what has ended must stay as it is."""
        letters, self.dead_letters = self.dead_letters, []
        for function, event in letters + letters:
            if function not in ("reconcile", "curfew"):
                self.note("a person", f"redrives a letter of {function}")
                self.invoke(function, event)
        self.quiet_ticks = 0

    def _is_quiet(self) -> bool:
        """Nothing is under way and nothing is left. What would have been broken later then has nobody to hit."""
        return not (self.pending_events or self.in_flight or self.user_left) and self.checks.nothing_left()

    def _is_over(self) -> bool:
        # A census runs each quarter of an hour: a manifest that no event told of waits for it.
        return self.quiet_ticks >= 2 and self._is_quiet() and not self.checks.manifest_waits()

    # Lambda.

    def invoke(self, function: str, event: dict[str, Any], tries: int = 0) -> None:
        """Asynchronous: two retries, then the dead-letter queue."""
        self.in_flight += 1
        self.invoked += 1
        number = self.invoked

        def process() -> None:
            skew_s = self.rng.uniform(-self.scenario.skew_s, self.scenario.skew_s) if self.scenario.skew_s else 0.0
            one = Invocation(function, number, self.scheduler.now, skew_s)
            self.invocations[getcurrent()] = one
            context = SimpleNamespace(get_remaining_time_in_millis=lambda: 1000 * (FUNCTION_TIMEOUT_S - (self.scheduler.now - one.started_s)))
            try:
                result = HANDLES[function](event, context, self.rooms)
                self.note(f"{function} {number}", f"done: {_short(result)}")
            except Violation:
                raise
            except Died as died:
                self.note(f"{function} {number}", f"dies: {died}")
                self.checks.ledger_hurt |= function == "publish_ledger"
                self._retry(function, event, tries)
            except Exception as error:
                self.note(f"{function} {number}", f"raises {type(error).__name__}: {str(error)[:200]}")
                self.checks.on_raise(function, error)
                self.checks.ledger_hurt |= function == "publish_ledger"
                self._retry(function, event, tries)
            finally:
                self.in_flight -= 1
                del self.invocations[getcurrent()]
            self.checks.on_done(one)

        self.scheduler.spawn(process)

    def _retry(self, function: str, event: dict[str, Any], tries: int) -> None:
        if tries < len(RETRIES_S):
            self.pending_events += 1
            self.scheduler.later(RETRIES_S[tries], lambda: self._deliver_again(function, event, tries + 1))
        else:
            self.note("Lambda", f"gives a letter of {function} to the dead-letter queue")
            self.dead_letters.append((function, event))

    def _deliver_again(self, function: str, event: dict[str, Any], tries: int) -> None:
        self.pending_events -= 1
        self.invoke(function, event, tries)

    def _count(self, name: str, count: int) -> None:
        self.counts[name] += count

    def _function_clock(self) -> datetime:
        one = self.invocations.get(getcurrent())
        return self.clock() + timedelta(seconds=one.skew_s) if one is not None and one.skew_s else self.clock()

    def _gate(self, operation: str, subject: str, effect: Callable[[], Any]) -> Any:
        one = self.invocations.get(getcurrent())
        if one is None or one.dead:
            raise Died("a dead function cannot call")
        one.calls += 1
        if operation == "ec2.create_fleet":
            self.checks.on_fleet_call(subject, self.account.ec2.fleet_requests[-1].get("ClientToken", ""))
            self.account.ec2.extra_instances = int(self.launches in self.scenario.too_many)
            is_gang = self.account.ec2.fleet_requests[-1]["TargetCapacitySpecification"]["TotalTargetCapacity"] > 1
            if is_gang and self.launches in self.scenario.too_few:
                self.account.ec2.missing_instances = 1
                self.checks.short.add(self.account.ec2.fleet_requests[-1]["ClientToken"])
        who = f"{one.function} {one.number}"
        fault = self._fault(operation)
        self._pause(one, self.scenario.latency_s * self.rng.random())
        if fault == CRASH_BEFORE:
            self._die(one, f"before {operation}")
        if fault == THROTTLED:
            self.note(who, f"{operation} {subject}: throttled")
            raise aws_error(_THROTTLE[operation.split(".")[0]], "Rate exceeded", operation)
        if fault == LATE:
            self.note(who, f"{operation} {subject}: no answer; it will land later")
            self.scheduler.later(self.rng.uniform(1.0, 90.0), lambda: self._lands(operation, subject, effect))
            self._pause(one, 8.0)
            raise lost_answer(operation)
        error: ClientError | None = None
        answer: Any = None
        try:
            answer = effect()
        except ClientError as refused:
            error = refused
        self.note(who, f"{operation} {subject}{': ' + error.response['Error']['Code'] if error is not None else ''}{' [' + fault + ']' if fault else ''}")
        self.checks.after_call()
        if fault == CRASH_AFTER:
            self._die(one, f"after {operation}")
        self._pause(one, 8.0 if fault == UNKNOWN else self.scenario.latency_s * self.rng.random())
        if fault == UNKNOWN:
            raise lost_answer(operation)
        if error is not None:
            raise error
        return answer

    def _lands(self, operation: str, subject: str, effect: Callable[[], Any]) -> None:
        try:
            effect()
            self.note("AWS", f"{operation} {subject}: lands late")
        except ClientError as error:
            self.note("AWS", f"{operation} {subject}: lands late, {error.response['Error']['Code']}")
        self.checks.after_call()

    def _pause(self, one: Invocation, seconds: float) -> None:
        self.scheduler.pause(seconds)
        if self.scheduler.now - one.started_s > FUNCTION_TIMEOUT_S:
            self._die(one, "its time is over")

    def _die(self, one: Invocation, why: str) -> None:
        one.dead = True
        raise Died(why)

    def _fault(self, operation: str) -> str:
        count = self.calls.get(operation, 0)
        self.calls[operation] = count + 1
        self.made.append((operation, count))
        named = self._call_faults.get((operation, count))
        if named is not None:
            return named
        if not self.scenario.storms:
            return ""
        service = operation.split(".")[0]
        for storm in self.scenario.storms:
            if storm.service == service and storm.start_s <= self.scheduler.now < storm.end_s and self.rng.random() < storm.probability:
                return storm.kind
        return ""


def _settings(scenario: Scenario, template_version: str = "1") -> Settings:
    return Settings(
        project=PROJECT,
        table_name=TABLE,
        data_bucket=DATA,
        outputs_bucket=OUTPUTS,
        topic_arn="topic",
        instance_role_id="AROAEXAMPLEROLEID0001",
        launch_template_id="lt-0123456789abcdef0",
        launch_template_version=template_version,
        subnet_ids=("subnet-a", "subnet-b"),
        heartbeat_s=30.0,
        notice_s=120.0,
        stray_grace_s=300.0,
        max_concurrent_jobs=scenario.max_concurrent_jobs,
        pause_on_budget=True,
        monthly_cap_usd=1e6,
        volume_gib=150,
        peer_regions=(PEER,) if scenario.two_regions else (),
    )


def _route(source: str, kind: str, detail: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The function that the template's rules and subscriptions bring an event to, and the event in its real form."""
    event = {"version": "0", "id": "e", "source": source, "detail-type": kind, "detail": detail}
    if source == "aws.s3":
        bucket, key = detail["bucket"]["name"], detail["object"]["key"]
        if bucket == DATA and key.startswith("jobs/"):
            return "submit", event
        return ("completion", event) if bucket == OUTPUTS and key.endswith("/completion.json") and kind == "Object Created" else (None, event)
    if source == "aws.ec2":
        if kind == "EC2 Instance State-change Notification":
            return ("instance_state", event) if detail["state"] not in ("pending", "running") else (None, event)
        return "interruption", event
    if source == "aws.sns":
        return "publish_ledger", {"Records": [{"EventSource": "aws:sns", "Sns": detail}]}
    return "budget", event


def _short(result: Any) -> str:
    return f"{result.job_id} {result.state} v{result.version}" if isinstance(result, Job) else str(result)[:120]
