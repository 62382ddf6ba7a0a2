"""The promises, checked at every step and at the end of a run. Numbers as in docs/reliability.md."""

import math
from typing import TYPE_CHECKING, Any

from control_plane.core import ledger
from control_plane.core.records import AttemptEnd
from control_plane.core.state import ENDS, QUEUED, Job, JobState, NoticeKind, WaitKind
from jobspec import keys, tags, wire
from jobspec.marker import CompletionMarker, FailureCode, Outcome
from jobspec.status import Status
from jobspec.ticket import Ticket
from tests.simulation import kin, records
from tests.simulation.aws.ec2 import Instance, address_of

if TYPE_CHECKING:
    from tests.simulation.box import Box
    from tests.simulation.world import Invocation, World

TICK_S = 60.0
GRACE_S = 300.0
#: Seconds after its deadline at which no instance may live, while tick and curfew run: the box's own timer, a minute of grace, two ticks.
BEYOND_S = 60.0 + 2 * TICK_S + 60.0
#: Calls that one tick may make: some for itself, some for each unsettled job.
TICK_CALLS, JOB_CALLS = 40, 60
#: Launch plans of one job that may be called within a minute: a fall-back market, a spent token.
PLANS_A_MINUTE = 3
#: What the ledger noted within this time of the publish is known when a claim is given up (15 minutes after it was made).
LEDGER_S = 15 * 60.0 - 60.0
#: A hand-over: the notice, the grace after it, and two ticks.
HANDOVER_S = 120.0 + 180.0 + 3 * TICK_S
#: A planned one: before it the replacement has the time of a boot to stand ready.
PLANNED_HANDOVER_S = 1200.0 + HANDOVER_S

#: Dollars by which the months' spend may be off: it is kept to a millionth.
SPEND_USD = 1e-4


class Violation(BaseException):
    """A promise that was not kept. ``rule`` is its number. Not an Exception, so that no code under test can swallow it."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule = rule


class Checks:
    def __init__(self, world: "World") -> None:
        self._world = world
        self.jobs: dict[str, Job] = {}
        self._dirty = False
        self._plans: dict[str, str] = {}
        self._tokens: dict[str, list[str]] = {}
        #: Client tokens of the calls that EC2 answered with too few instances.
        self.short: set[str] = set()
        self._gang_lost_s: dict[str, float] = {}
        self._extra: set[str] = set()
        self._letters: dict[str, int] = {}
        self._settled_usd: dict[str, float] = {}
        self._published_s: dict[str, float] = {}
        self._noted_s: dict[str, float] = {}
        self._told = 0
        self._unnamed_since: dict[str, float] = {}
        self._twice_since: dict[tuple[str, ...], float] = {}
        self._stopped_since: dict[str, float] = {}
        self._behind_since: dict[str, float] = {}
        self._versions: dict[str, str | None] = {}
        #: A letter to the publish ledger came later than the ledger is given: the one case in which an e-mail may be sent twice.
        self.ledger_hurt = False
        self._ended_s: dict[str, float] = {}
        self._deleted_s: dict[str, float] = {}
        self.withdrawn_s: dict[str, float] = {}
        self._finished: set[str] = set()
        self._garbled: set[str] = set()
        self._waits_from_s: dict[str, float] = {}
        self._written_s: dict[str, float] = {}
        self._fleet_calls: dict[str, dict[str, float]] = {}
        #: E-mails sent twice for that reason; the metric NoticesDoubled counts them in production.
        self.doubled = 0

    # What the world tells.

    def on_put(self, key: str, version_id: str) -> None:
        self._versions[key] = version_id

    def on_delete(self, key: str) -> None:
        self._versions[key] = None
        self._deleted_s[key] = self._world.scheduler.now

    def on_withdrawn(self, job_id: str) -> None:
        """A user cancelled this one job of a sweep or a schedule."""
        self.withdrawn_s.setdefault(job_id, self._world.scheduler.now)

    def on_finished(self, instance_id: str) -> None:
        """A box wrote a true marker, its files before it."""
        self._finished.add(instance_id)

    def on_garbled(self, instance_id: str) -> None:
        """A box wrote a marker that nobody can read, or that speaks of another."""
        self._garbled.add(instance_id)

    def on_fleet_call(self, job_id: str, token: str) -> None:
        """I14: refusals are waited out, not hammered. Drivers may repeat one plan's call, which starts nothing new."""
        now = self._world.scheduler.now
        lately = {one: at for one, at in self._fleet_calls.get(job_id, {}).items() if now - at < 60.0}
        self._fleet_calls[job_id] = {token: now} | lately
        # Each region may refuse on its own, one after the other.
        if len(self._fleet_calls[job_id]) > PLANS_A_MINUTE * (1 + self._world.scenario.two_regions):
            self._world.fail("I14", f"{len(lately) + 1} plans were called for {job_id} within a minute")

    def on_write(self, pk: str, item: dict[str, Any]) -> None:
        """I5, I6: ends absorb, versions grow by one, a plan is on record before its call."""
        self._dirty = True
        if pk.startswith("NOTICE#"):
            self._noted_s.setdefault(pk.removeprefix("NOTICE#"), self._world.scheduler.now)
        if pk.startswith("SPEND#"):
            self._settled_usd[pk] = float(item["settled_usd"]["N"])
        if not pk.startswith("JOB#"):
            return
        job = records.job_of(item)
        before = self.jobs.get(job.job_id)
        if before is not None:
            if job.version != before.version + 1:
                self._world.fail("I6", f"{job.job_id}: version {before.version} was followed by {job.version}")
            if before.ended and job.state is not before.state:
                self._world.fail("I5", f"{job.job_id} had ended as {before.state} and became {job.state}")
            if before.settled:
                self._world.fail("I5", f"{job.job_id} was settled and is written again")
        if before is None:
            twin = next((one for one in self.jobs.values() if (one.manifest_ref, one.name) == (job.manifest_ref, job.name) or kin.are_twins(one, job)), None)
            if twin is not None:
                self._world.fail("I5", f"{twin.job_id} and {job.job_id} came of one version of a manifest")
        if job.manifest is not None and any(len(attempt.instances) != job.manifest.compute.nodes for attempt in job.attempts):
            self._world.fail("I17", f"{job.job_id} has an attempt that is not of {job.manifest.compute.nodes} instances")
        if job.plan is not None:
            self._plans[job.plan.client_token] = job.job_id
        if before is None and job.state is JobState.REJECTED and job.refused_beside is None:
            self._stands_beside_nobody(job)
        kin.born_in_order(world=self._world, jobs=self.jobs, job=job, is_new=before is None)
        kin.ended_with_its_jobs(self._world, self.jobs, job, has_ended=job.ended and (before is None or not before.ended))
        self._names_what_it_waits_for(job)
        self._heard_every_marker(job)
        self._waited_for_capacity(job, before)
        if job.manifest is not None and len(job.attempts) > job.manifest.limits.max_attempts:
            self._world.fail("I11", f"{job.job_id}: {len(job.attempts)} attempts of {job.manifest.limits.max_attempts}")
        if job.settled:
            alive = [i.instance_id for a in job.attempts for i in a.instances if self._world.account.ec2.instances[i.instance_id].is_live]
            if alive:
                self._world.fail("L2", f"{job.job_id} is settled while {', '.join(alive)} lives")
        if job.ended and (before is None or not before.ended):
            self._ended_s[job.job_id] = self._world.scheduler.now
            if job.state is JobState.SUCCEEDED and not job.is_parent:
                self._holds_its_model(job)
            if job.state is JobState.STOPPED_DEADLINE and job.failure is None:
                self._had_its_time(job)
            if job.state is JobState.CANCELLED and job.manifest_ref.key not in self._deleted_s and not kin.is_withdrawn(job, self.withdrawn_s):
                self._world.fail("C1", f"{job.job_id} was cancelled, and nobody deleted its manifest")
            if job.failure is FailureCode.GPU_IDLE:
                self._was_idle(job)
            if job.reason.startswith("EC2 refused the launch"):
                self._world.fail("R1", f"{job.job_id}: a call that EC2 cannot understand, in a stack without a fault: {job.reason}")
        if job.plan is not None and len({pool.zone[:-1] for pool in job.plan.pools}) != 1:
            self._world.fail("R1", f"{job.job_id}: a plan of several regions")
        self.jobs[job.job_id] = job

    def on_launch(self, instance: Instance, *, extra: bool) -> None:
        """I1, I2, I4: one live instance a job, one effect a plan, a plan on record, tags at birth."""
        world, job_id = self._world, instance.tags.get(tags.JOB, "")
        missing = [name for name in tags.REQUIRED if not instance.tags.get(name)]
        if missing:
            world.fail("I4", f"{instance.instance_id} was born without {', '.join(missing)}")
        if extra:
            # Which of the two becomes the attempt is the control plane's choice; the other is to go.
            self._extra |= {one.instance_id for one in self._live(job_id) if one.client_token == instance.client_token}
            return
        token = instance.client_token
        if token in self.short:
            # A part of a gang, that EC2 should not have started: it gets no ticket, and is to go.
            self._extra.add(instance.instance_id)
            return
        if not token or token not in self._plans:
            world.fail("I2", f"{instance.instance_id} was started by a call that is on no record")
        started = self._tokens.setdefault(token, [])
        if len(started) >= world.plan_of(job_id).nodes:
            world.fail("I2", f"one plan of {job_id} started {', '.join(started)} and {instance.instance_id}")
        if started and (pool := world.account.ec2.instances[started[0]]).is_live and (pool.instance_type, pool.zone) != (instance.instance_type, instance.zone):
            world.fail("I17", f"{instance.instance_id} and {started[0]} of one launch are not of one pool")
        started.append(instance.instance_id)
        # I14 is about refusals: a job that is interrupted four times in a minute may be launched four times.
        self._fleet_calls.get(job_id, {}).pop(token, None)
        job = self.jobs[self._plans[token]]
        planned = (
            job.plan if job.plan is not None and job.plan.client_token == token else next((a.plan for a in job.attempts if a.plan.client_token == token), None)
        )
        if planned is not None and planned.template_version != instance.template_version:
            world.fail("I2", f"{instance.instance_id} was made from template version {instance.template_version}, its plan says {planned.template_version}")
        kin.follows_in_order(world, self.jobs, job)
        others = [one for one in self._live(job_id) if one.client_token != token and not self._leaves(one)]
        if others and not self._is_return(job, instance, others):
            world.fail("I1", f"{instance.instance_id} was started for {job_id} while {', '.join(one.instance_id for one in others)} lived")

    def _is_return(self, job: Job, instance: Instance, others: list[Instance]) -> bool:
        """A planned hand-over: a spot instance beside the one on-demand instance of a job that takes the cheapest market."""
        return (
            job.manifest is not None
            and job.manifest.compute.market == "cheapest"
            and instance.market == "spot"
            and {one.market for one in others} == {"on-demand"}
            and len({one.client_token for one in others}) == 1
        )

    def on_change(self, instance: Instance) -> None:
        self._dirty = True

    def on_terminate(self, instance_id: str, instance: Instance | None) -> None:
        """I9, H1: nobody else's instance is touched, and none that does its work well."""
        world = self._world
        if instance is None or instance.tags.get(tags.PROJECT) != world.account.project:
            world.fail("I9", f"terminate was called for {instance_id}, which is not this project's")
            return
        box, job = world.boxes[instance_id], self.jobs.get(instance.tags.get(tags.JOB, ""))
        if job is None:
            return
        calm = self._slack_s() < TICK_S
        if (
            calm
            and job.ending is not None
            and not box.marked
            and box.ticket is not None
            and world.account.s3.read(world.data_bucket, keys.stop_key(box.writer)) is None
        ):
            attempt = job.attempt_of(instance_id)
            if (
                attempt is not None
                and attempt.first_warned_at is None
                and attempt.broken_at is None
                and world.scheduler.now < world.seconds(attempt.plan.deadline_at) + 60.0
                and job.state is job.ending.state
            ):
                world.fail("H4", f"{instance_id} was terminated without having been asked for a last save")
        if (
            box.warned_s is not None
            and box.plan.notice_s
            and box.runs
            and not job.ended
            and job.ending is None
            and not box.marked
            and world.scheduler.now < box.warned_s + box.plan.notice_s
        ):
            found = job.found(instance_id)
            if found is not None and found[1].warned_at is not None and world.clock() < found[0].plan.deadline_at:
                world.fail("H2", f"{instance_id} was terminated in its notice, while it saved")
        self._leader_had_its_time(box, job)
        if job.ended or job.ending is not None or not box.healthy or box.warned_s is not None or box.marked:
            return
        attempt = job.attempt_of(instance_id)
        if attempt is not None and attempt.is_open and world.clock() < attempt.plan.deadline_at:
            world.fail("H1", f"{instance_id} works for {job.job_id} and was terminated")

    def _leader_had_its_time(self, box: "Box", job: Job) -> None:
        """H2: a leader that can still save is given the time for it when another of its gang is lost or under notice."""
        world, attempt = self._world, job.attempt_of(box.instance.instance_id)
        if attempt is None or attempt.broken_at is None or not attempt.is_open or job.ended or job.ending is not None:
            return
        saves = box.leads and box.started_s is not None and box.froze_s is None and not (box.marked or box.silent or box.phase.value == "handed_over")
        told = world.seconds(attempt.broken_at)
        if saves and box.runs and box.warned_s is None and world.scheduler.now < told + 120.0 and world.clock() < attempt.plan.deadline_at:
            world.fail("H2", f"{box.instance.instance_id} was terminated {world.scheduler.now - told:.0f} s after its gang broke up, before it had saved")

    def on_resumed(self, box: "Box") -> None:
        """I12: an attempt starts at the newest durable checkpoint of its job, and waits for a predecessor that still saves."""
        world, s3 = self._world, self._world.account.s3
        prefix = keys.run_prefix(box.job_id, "")[:-1]
        steps = [step for key in s3.keys(world.outputs_bucket, prefix) if (step := keys.checkpoint_step(key)) is not None]
        if max(steps, default=0) > box.first_step:
            world.fail("I12", f"{box.instance.instance_id} starts at step {box.first_step}; a checkpoint of step {max(steps)} is published")
        self._trains_whole(box)
        for other in world.boxes.values():
            earlier = other.ticket is not None and box.ticket is not None and other.ticket.attempt < box.ticket.attempt
            saving = other.job_id == box.job_id and earlier and other.leads and other.runs and other.leaving and other.phase.value == "saving"
            if saving and other.warned_s is not None and world.scheduler.now < other.warned_s + other.plan.save_s - 1:
                world.fail("I12", f"{box.instance.instance_id} starts while {other.instance.instance_id} still saves")

    def on_raise(self, function: str, error: Exception) -> None:
        """A function may raise for a passing fault; a programmer's error is none."""
        if isinstance(error, AssertionError | TypeError | KeyError | AttributeError | IndexError):
            raise error

    def on_done(self, one: "Invocation") -> None:
        """I14: the work of a tick is bounded by the jobs at hand."""
        if one.function == "reconcile":
            open_jobs = max(sum(plan.nodes for plan in self._world.plans.values()), len(self.jobs))
            if one.calls > TICK_CALLS + JOB_CALLS * open_jobs:
                self._world.fail("I14", f"a tick made {one.calls} calls for {open_jobs} job(s)")

    def after_call(self) -> None:
        if self._dirty:
            self._dirty = False
            self._turns_are_kept()
        published = self._world.account.sns.published
        while self._told < len(published):
            self._on_letter(published[self._told])
            self._told += 1

    def each_minute(self) -> None:
        """I1, I3, I10: no live instance that nobody names, none past its deadline, no two for long."""
        world, now = self._world, self._world.scheduler.now
        slack_s = self._slack_s()
        for one in world.account.ec2.instances.values():
            if one.tags.get(tags.PROJECT) != world.account.project:
                continue
            if one.state in ("stopping", "stopped"):
                since = self._stopped_since.setdefault(one.instance_id, now)
                if now - since > 4 * TICK_S + slack_s:
                    world.fail("H7", f"{one.instance_id} stands stopped for {now - since:.0f} s; its volume is billed")
            if not one.is_live:
                continue
            job = self.jobs.get(one.tags.get(tags.JOB, ""))
            named = (
                job is not None
                and not job.settled
                and (job.attempt_of(one.instance_id) is not None or (job.plan is not None and job.plan.client_token == one.client_token))
            )
            since = self._unnamed_since.setdefault(one.instance_id, now) if not named else self._unnamed_since.pop(one.instance_id, now)
            if not named and now - since > GRACE_S + 4 * TICK_S + slack_s:
                world.fail("I3", f"{one.instance_id} lives and no job names it, for {now - since:.0f} s")
            self._is_cared_for(one, job, slack_s)
            ended_s = max(self._ended_s.get(job.job_id, now), world.scenario.healed_s) if job is not None else now
            if now - ended_s > 4 * TICK_S + slack_s and world.boxes[one.instance_id].warned_s is None and one.instance_id not in self._extra:
                world.fail("L2", f"{one.instance_id} lives {now - ended_s:.0f} s after the end of its job")
            deadline = tags.deadline_of(one.tags)
            if deadline is not None and now > world.seconds(deadline) + self._beyond_s():
                world.fail("I10", f"{one.instance_id} lives {now - world.seconds(deadline):.0f} s beyond its deadline")
        for job in self.jobs.values():
            kin.starts_soon(world, self.jobs, job, self._ended_s, 4 * TICK_S + slack_s)
            kin.quota_is_told(world, self.jobs, job, 4 * TICK_S + slack_s)
            kin.cancelled_soon(world, self.jobs, job, 4 * TICK_S + slack_s)
            kin.withdrawn_soon(world, job, self.withdrawn_s, 4 * TICK_S + slack_s)
            kin.stands_in_nobodys_way(world, self.jobs, job, self._behind_since, 4 * TICK_S + slack_s)
        for job_id in self.jobs:
            live = [one for one in self._live(job_id) if one.instance_id not in self._extra]
            # Of these very launches: between two looks one pair may end and another begin.
            launches = tuple(dict.fromkeys(one.client_token for one in live))
            since = self._twice_since.setdefault((job_id, *launches), now)
            allowed_s = PLANNED_HANDOVER_S if len({one.market for one in live}) > 1 else HANDOVER_S
            if len(launches) > 1 and now - since > allowed_s + slack_s:
                world.fail("I1", f"{job_id} has the instances of {len(launches)} launches for {now - since:.0f} s")
            self._no_part_lives(live, slack_s)

    def on_ticket(self, box: "Box", ticket: Ticket) -> None:
        """I17: the tickets of a gang name the same members, on record for one attempt, at their true addresses, each with its own rank."""
        world, job = self._world, self.jobs[box.job_id]
        if ticket.gang is None:
            if world.plan_of(box.job_id).nodes > 1:
                world.fail("I17", f"{box.instance.instance_id} was told to train alone")
            return
        attempt = job.attempt_of(box.instance.instance_id)
        members = [keys.instance_of(member) for member in ticket.gang.members]
        if attempt is None or members != [one.instance_id for one in attempt.instances] or members[ticket.gang.rank] != box.instance.instance_id:
            world.fail("I17", f"the ticket of {box.instance.instance_id} names {members} and rank {ticket.gang.rank}")
        if list(ticket.gang.addresses) != [address_of(world.account.ec2.instances[member]) for member in members]:
            world.fail("I17", f"the ticket of {box.instance.instance_id} names wrong addresses")

    def _trains_whole(self, box: "Box") -> None:
        """I17: a gang trains with all its members, of one pool, and no other gang of the job trains beside it."""
        world, members = self._world, [box, *box.others]
        if len(members) != world.plan_of(box.job_id).nodes or not all(one.runs and one.ticket is not None for one in members):
            world.fail("I17", f"{box.instance.instance_id} trains with {len(members) - 1} others, and not all of its gang are there")
        if len({(one.instance.instance_type, one.instance.zone, one.instance.client_token) for one in members}) != 1:
            world.fail("I17", f"the gang of {box.instance.instance_id} is not of one launch and pool")
        for other in world.boxes.values():
            trains = other.job_id == box.job_id and other not in members and other.started_s is not None and other.froze_s is None
            # One under notice may be one that nobody could tell: neither the bus nor its metadata has told of it.
            works = trains and other.runs and not (other.leaving or other.marked or other.silent or self._leaves(other.instance))
            if works and len(members) > 1:
                world.fail("I17", f"the gangs of {box.instance.instance_id} and {other.instance.instance_id} train at one time")

    def _no_part_lives(self, live: list[Instance], slack_s: float) -> None:
        """I17: what is left of a gang is ended, after the time that its leader may need to hand over."""
        world, now = self._world, self._world.scheduler.now
        for one in live:
            gang = world.boxes[one.instance_id].gang
            lost = [box for box in gang if not box.runs and box.phase.value != "finished" and box.instance.instance_id not in self._extra]
            since = self._gang_lost_s.setdefault(one.instance_id, now) if lost else now
            if now - since > HANDOVER_S + slack_s and world.boxes[one.instance_id].warned_s is None:
                world.fail("I17", f"{one.instance_id} lives on, {now - since:.0f} s after {lost[0].instance.instance_id} of its gang was lost")

    # The end.

    def nothing_left(self) -> bool:
        return all(job.settled for job in self.jobs.values()) and not any(
            one.state not in ("shutting-down", "terminated") and one.tags.get(tags.PROJECT) == self._world.account.project
            for one in self._world.account.ec2.instances.values()
        )

    def manifest_waits(self) -> bool:
        """A manifest that lies there has no job yet."""
        return any(self._job_of(key) is None for key, version in self._versions.items() if version is not None)

    def at_end(self, over: bool) -> None:
        """I5, I7, I11, L1, L2: quiet was reached, each manifest has its end, each end its e-mail and its status."""
        world = self._world
        if not over:
            open_jobs = [f"{job.job_id} {job.state} ({job.reason})" for job in self.jobs.values() if not job.settled]
            live = [one.instance_id for one in world.account.ec2.instances.values() if one.is_live]
            waiting = [key for key, version in self._versions.items() if version is not None and self._job_of(key) is None]
            world.fail("L1", f"not quiet at the end: jobs {open_jobs}, instances {live}, manifests without a job {waiting}, in flight {world.in_flight}")
        self.after_call()
        for job in self.jobs.values():
            if job.state not in ENDS:
                world.fail("I5", f"{job.job_id} never ended: {job.state}")
            for notice in job.notices:
                if self._letters.get(notice.notice_id, 0) != 1 and not (self.doubled and self._letters.get(notice.notice_id)):
                    world.fail("I7", f"{notice.notice_id} was published {self._letters.get(notice.notice_id, 0)} times")
            is_silent = kin.is_silent(self.jobs, job)
            if is_silent is any(notice.kind.value == "end" for notice in job.notices):
                world.fail("I7", f"{job.job_id} ended, and its e-mail is {'owed' if is_silent else 'not owed'}")
            self._within_budget(job)
            self._cancelled_in_time(job)
            kin.failed_for_a_reason(world, self.jobs, job)
            kin.within_the_sweeps_money(world, self.jobs, job, self.spent_usd)
        self._status_is_true()
        self._counted_once()
        self._months_add_up()

    # How each is checked.

    def _job_of(self, key: str) -> Job | None:
        version = self._versions[key]
        return next((job for job in self.jobs.values() if job.manifest_ref.key == key and job.manifest_ref.version_id == version), None)

    def _live(self, job_id: str) -> list[Instance]:
        return [one for one in self._world.account.ec2.instances.values() if one.is_live and one.tags.get(tags.JOB) == job_id]

    def _leaves(self, one: Instance) -> bool:
        """Under notice, told to hand over, or one of those that EC2 started too many."""
        job = self.jobs.get(one.tags.get(tags.JOB, ""))
        attempt = job.attempt_of(one.instance_id) if job is not None else None
        is_told = attempt is not None and (attempt.relieved_at is not None or attempt.broken_at is not None)
        is_warned = any(box.warned_s is not None for box in self._world.boxes[one.instance_id].gang)
        return is_told or is_warned or one.instance_id in self._extra

    def _slack_s(self) -> float:
        """What the run's own faults excuse: a call that fails costs a tick, an outage its length."""
        scenario = self._world.scenario
        lost_s = sum(s.end_s - s.start_s for s in scenario.storms) + sum(o.end_s - o.start_s for o in scenario.outages if o.part in ("tick", "curfew"))
        hidden_s = max((box.hidden_s for box in scenario.boxes), default=0.0)
        return 3 * TICK_S * len(scenario.calls) + lost_s + hidden_s + 60 * scenario.latency_s

    def _beyond_s(self) -> float:
        """How long past its deadline an instance may live: the tick ends it; with a dead tick the curfew does."""
        scenario = self._world.scenario
        if any(o.part == "curfew" for o in scenario.outages) or any(s.service == "ec2" for s in scenario.storms):
            return BEYOND_S + self._slack_s()
        dead_tick = any(o.part == "tick" for o in scenario.outages) or any(s.service != "sns" for s in scenario.storms)
        quiet_s = 300.0 * sum(fault.operation.startswith("ec2.") for fault in scenario.calls)
        return (
            (2 * 60.0 + 300.0 + 60.0 if dead_tick else BEYOND_S)
            + quiet_s
            + 3 * TICK_S * len(scenario.calls)
            + 60 * scenario.latency_s
            + max((box.hidden_s for box in scenario.boxes), default=0.0)
        )

    def _is_cared_for(self, one: Instance, job: Job | None, slack_s: float) -> None:
        """H3, H5: an instance on record gets its ticket soon, and one that has fallen silent is ended."""
        world, now = self._world, self._world.scheduler.now
        attempt = job.attempt_of(one.instance_id) if job is not None and not job.ended else None
        box = world.boxes[one.instance_id]
        if attempt is None or box.warned_s is not None:
            return
        age_s = now - world.seconds(attempt.launched_at)
        owed = attempt.is_open and attempt.broken_at is None and age_s > 4 * TICK_S + slack_s
        if owed and world.account.s3.read(world.data_bucket, keys.ticket_key(box.writer)) is None:
            world.fail("H3", f"{one.instance_id} is on record for {age_s:.0f} s and has no ticket")
        wants_it = job is not None and job.manifest is not None and job.manifest.limits.idle_gpu.action == "stop"
        if wants_it and box.idle_told_s is not None and not box.leaving and now - box.idle_told_s > 4 * TICK_S + slack_s:
            world.fail("G1", f"{one.instance_id} has told of idle GPUs for {now - box.idle_told_s:.0f} s and works on")
        silent_s = now - (box.beat_s if box.beat_s is not None else world.seconds(one.launched_at))
        if silent_s > (300.0 if box.beat_s is not None else 1200.0) + 4 * TICK_S + slack_s:
            world.fail("H5", f"{one.instance_id} has been silent for {silent_s:.0f} s and lives")

    def _was_idle(self, job: Job) -> None:
        """G2: a job is stopped for idle GPUs only where its manifest wants it, and an instance of it told that every one was, for the window."""
        assert job.manifest is not None
        if job.manifest.limits.idle_gpu.action != "stop" or all(
            self._world.boxes[i.instance_id].idle_told_s is None for a in job.attempts for i in a.instances
        ):
            self._world.fail("G2", f"{job.job_id} was stopped for idle GPUs, and they were not")

    def _names_what_it_waits_for(self, job: Job) -> None:
        """E1: a quota is told as a quota, a full pool as a full pool: only a person can mend the one, and time the other."""
        if job.wait is None or job.manifest is None:
            return
        says_quota = "MaxSpotInstanceCountExceeded" in job.wait.reason and "on-demand next" not in job.wait.reason
        told = kin.is_silent(self.jobs, job) or any(n.kind is NoticeKind.QUOTA for n in job.notices)
        as_quota = job.wait.kind is WaitKind.QUOTA or "another region next" in job.wait.reason
        if says_quota and not (as_quota and told):
            self._world.fail("E1", f"{job.job_id} waits for a quota as for {job.wait.kind}, and nobody is told")
        others = ("Insufficient", "Unfulfillable", "Unsupported", "MaxSpot")
        if "RequestLimitExceeded" in job.wait.reason and not any(code in job.wait.reason for code in others) and job.wait.kind is not WaitKind.THROTTLE:
            self._world.fail("E1", f"{job.job_id} takes a throttle for {job.wait.kind}")

    def _had_its_time(self, job: Job) -> None:
        """H8: no job is stopped for its time before that is nearly up."""
        until = min((attempt.plan.deadline_at for attempt in job.attempts), default=None)
        early_s = (until - self._world.clock()).total_seconds() if until is not None else 0.0
        if early_s > 120.0 + TICK_S:
            self._world.fail("H8", f"{job.job_id} was stopped for its deadline {early_s:.0f} s before it")

    def _stands_beside_nobody(self, job: Job) -> None:
        """B1: a refused manifest that shares a key or a name with an active job leaves that job's status alone."""
        for other in self.jobs.values():
            if not other.ended and (other.name == job.name or other.manifest_ref.key == job.manifest_ref.key):
                self._world.fail("B1", f"{job.job_id} was refused as if alone, while {other.job_id} is active")

    def _heard_every_marker(self, job: Job) -> None:
        """H6: no attempt is given up whose model was finished: its marker was there before its instance went."""
        for attempt in job.attempts:
            if attempt.end in (AttemptEnd.DIED, AttemptEnd.INTERRUPTED) and attempt.instance_id in self._finished:
                self._world.fail("H6", f"attempt {attempt.number} of {job.job_id} is on record as {attempt.end}; it had finished")
            if attempt.end is AttemptEnd.DIED and attempt.instance_id in self._garbled:
                self._world.fail("H6", f"attempt {attempt.number} of {job.job_id} is on record as {attempt.end}; it had written a marker, if an unreadable one")

    def _waited_for_capacity(self, job: Job, before: Job | None) -> None:
        """E2: max_wait is for capacity: the time in the queue, or under a hold, ends no job."""
        now = self._world.scheduler.now
        if before is None or len(job.attempts) > len(before.attempts):
            self._waits_from_s[job.job_id] = now
        elif before.wait is not None and before.wait.kind in QUEUED and before.plan is None:
            self._waits_from_s[job.job_id] += now - self._written_s[job.job_id]
        self._written_s[job.job_id] = now
        if job.manifest is not None and job.reason.startswith("no instance within max_wait"):
            waited_s = now - self._waits_from_s[job.job_id]
            # A function's clock may be a second wrong.
            if waited_s < job.manifest.limits.max_wait - 10.0 and (before is None or not before.ended):
                self._world.fail("E2", f"{job.job_id} was given up after {waited_s:.0f} s without capacity, max_wait is {job.manifest.limits.max_wait} s")

    def _cancelled_in_time(self, job: Job) -> None:
        """C2: a job whose manifest is deleted, and stays so, ends soon, and as CANCELLED."""
        deleted_s, ended_s = self._deleted_s.get(job.manifest_ref.key), self._ended_s.get(job.job_id, 0.0)
        still = self._versions.get(job.manifest_ref.key) is None
        if deleted_s is None or not still or job.manifest is None or ended_s <= max(deleted_s, self._world.scenario.healed_s) + 4 * TICK_S + self._slack_s():
            return
        if job.state is not JobState.CANCELLED:
            self._world.fail("C2", f"{job.job_id} ended as {job.state}, {ended_s - deleted_s:.0f} s after its manifest was deleted")

    def _ran_s(self, one: Instance) -> float:
        return ((one.gone_at or self._world.clock()) - one.launched_at).total_seconds()

    def _within_runtime(self, job: Job, ours: list[Instance]) -> None:
        """I10: max_runtime is the job's, over all its attempts."""
        assert job.manifest is not None
        world = self._world
        # A gang's time counts once.
        longest: dict[str, float] = {}
        for one in ours:
            longest[one.client_token] = max(self._ran_s(one), longest.get(one.client_token, 0.0))
        ran_s = sum(longest.values())
        warned = len({one.client_token for one in ours if world.boxes[one.instance_id].warned_s is not None or job.manifest.compute.nodes > 1})
        # Each attempt's timer is set at its launch, when nobody knows yet how long two will live side by side.
        beside_s = PLANNED_HANDOVER_S if len({one.market for one in ours}) > 1 else 0.0
        if ran_s > job.manifest.limits.max_runtime + warned * 300.0 + beside_s + 60.0 + 3 * TICK_S + self._slack_s():
            world.fail("I10", f"{job.job_id} ran {ran_s:.0f} s over {len(ours)} instances, max_runtime is {job.manifest.limits.max_runtime:.0f} s")

    def _turns_are_kept(self) -> None:
        """I16: exactly the jobs that hold a plan or an instance hold a turn, and never more than may."""
        item = self._world.account.dynamodb.items.get("PROJECT#turns")
        holders = sorted(entry["S"] for entry in item["holders"]["L"]) if item is not None else []
        occupying = sorted(job.job_id for job in self.jobs.values() if job.occupies)
        if holders != occupying:
            self._world.fail("I16", f"turns are held by {holders}, and {occupying} occupy one")
        if len(holders) > self._world.scenario.max_concurrent_jobs:
            self._world.fail("I16", f"{len(holders)} jobs run, {self._world.scenario.max_concurrent_jobs} may")

    def _on_letter(self, note: dict[str, Any]) -> None:
        """I7: one publish for each notice, and an end's e-mail only after the end."""
        notice_id = note["MessageAttributes"]["notice_id"]["Value"]
        self._letters[notice_id] = self._letters.get(notice_id, 0) + 1
        published_s = self._published_s.setdefault(notice_id, self._world.scheduler.now)
        if self._letters[notice_id] > 1:
            in_time = self._noted_s.get(notice_id, math.inf) - published_s < LEDGER_S
            if not self.ledger_hurt or in_time:
                self._world.fail("I7", f"{notice_id} was published twice")
            self.doubled += 1
        job_id, _, kind = notice_id.partition("#")
        job = self.jobs.get(job_id)
        if kind == "end" and (job is None or not job.ended):
            self._world.fail("I7", f"{notice_id} was published before the job had ended")

    def _holds_its_model(self, job: Job) -> None:
        """I8: SUCCEEDED means a true marker of an instance on record, and the files that it names."""
        world = self._world
        for attempt in job.attempts:
            body = world.account.s3.read(world.outputs_bucket, keys.marker_key(job.job_id, attempt.writer))
            if body is None or b'"completed"' not in body:
                continue
            marker = wire.load(CompletionMarker, body)
            prefix = keys.run_prefix(job.job_id, attempt.writer)
            whole = all(world.account.s3.read(world.outputs_bucket, prefix + file.path) is not None for file in marker.files)
            if (
                marker.outcome is Outcome.COMPLETED
                and whole
                and world.boxes[attempt.instance_id].plan.fault not in ("marker with a wrong hash", "marker of another job")
            ):
                return
        world.fail("I8", f"{job.job_id} SUCCEEDED without a true marker and its files")

    def _within_budget(self, job: Job) -> None:
        """I11: all instances of a job together cost no more than its budget and what a few ticks may cost."""
        if job.manifest is None:
            return
        self._within_runtime(job, self._ours(job))
        spent, allowance = self.spent_usd(job)
        if spent > job.manifest.limits.budget_usd + allowance:
            self._world.fail("I11", f"{job.job_id} cost ${spent:.3f}, its budget is ${job.manifest.limits.budget_usd:.3f}")

    def _ours(self, job: Job) -> list[Instance]:
        return [one for one in self._world.account.ec2.instances.values() if one.tags.get(tags.JOB) == job.job_id and one.instance_id not in self._extra]

    def spent_usd(self, job: Job) -> tuple[float, float]:
        """What the job's instances have cost, and by how much that may pass its limit."""
        world, ours = self._world, self._ours(job)
        # What EC2 takes back within its first hour is free.
        paid = [one for one in ours if not (one.state_reason == "Server.SpotInstanceTermination" and self._ran_s(one) < 3600.0)]
        spent = sum(one.usd_per_h * self._ran_s(one) / 3600 for one in paid)
        # A tick or two; and a hand-over has two instances for a while.
        nodes = job.manifest.compute.nodes if job.manifest is not None else 1
        replaced = nodes > 1 and len({one.client_token for one in ours}) > 1
        overlap_s = 300.0 if replaced or any(world.boxes[one.instance_id].warned_s is not None for one in paid) else 0.0
        allowance = nodes * max((one.usd_per_h for one in ours), default=0.0) * (2 * TICK_S + overlap_s + self._slack_s()) / 3600
        return spent, allowance

    def _counted_once(self) -> None:
        """M1: nothing is counted twice, whoever raced whom; a function that dies may leave a thing uncounted."""
        jobs, counts = self.jobs.values(), self._world.counts
        attempts = [attempt for job in jobs for attempt in job.attempts]
        interrupted = sum(a.first_warned_at is not None or a.end is AttemptEnd.INTERRUPTED for a in attempts)
        ends = sum(count for name, count in counts.items() if name.startswith("Jobs"))
        for name, counted, true in (
            ("attempts", counts["AttemptsStarted"], len(attempts)),
            ("interruptions", counts["Interruptions"], interrupted),
            ("ends", ends, len(jobs)),
        ):
            if counted > true:
                self._world.fail("M1", f"{counted} {name} were counted, {true} happened")

    def _months_add_up(self) -> None:
        """M2: the months' spend, which the monthly cap is held against, has the cost of each settled job once."""
        months, true = sum(self._settled_usd.values()), sum(ledger.job_cost_usd(job, job.updated_at) for job in self.jobs.values() if job.settled)
        if abs(months - true) > SPEND_USD:
            self._world.fail("M2", f"the months' settled dollars are {months:.4f}, the settled jobs' {true:.4f}")

    def _status_is_true(self) -> None:
        """L5: the status object of a name says how its newest job ended."""
        world = self._world
        newest: dict[str, Job] = {}
        for job in sorted(self.jobs.values(), key=lambda job: job.accepted_at):
            if job.refused_beside is None:
                newest[job.name] = job
        for name, job in newest.items():
            body = world.account.s3.read(world.data_bucket, keys.status_key(name))
            state = wire.load(Status, body).state if body is not None else "no status"
            if state != job.state.value:
                world.fail("L5", f"the status of {name} says {state}, {job.job_id} is {job.state}")
