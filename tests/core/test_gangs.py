"""Several instances that train one attempt together: all or none, from the launch to the end."""

from dataclasses import replace
from datetime import timedelta

from control_plane.core import ledger, measures
from control_plane.core.actions import CallLaunch, LookAgain, Terminate, WriteStop, WriteTicket
from control_plane.core.events import (
    InstanceChanged,
    InterruptionWarned,
    LaunchedInstance,
    LaunchRefused,
    LaunchSucceeded,
    Rules,
    StopWritten,
    TerminationAnswered,
    TicketWritten,
)
from control_plane.core.failures import RefusalKind
from control_plane.core.letters import letter_of
from control_plane.core.records import AttemptEnd, Market
from control_plane.core.report import status_of
from control_plane.core.state import Job, JobState, NoticeKind, WaitKind
from control_plane.tickets import ticket_of
from jobspec.heartbeat import Notice, Phase
from jobspec.marker import FailureCode, Outcome
from jobspec.ticket import Ticket
from tests.core.worlds import FIRST, SECOND, STACK, START, THIRD, Story, at, heartbeat, marker, new_job, of, planned

FOURTH = "i-00000000000000004"
GANG = {"compute": {"instance_types": ["g5.xlarge"], "nodes": 2}}


def begun(**changes: object) -> Story:
    """A gang of FIRST and SECOND that trains: launched at 1 s, heard of at 60 s."""
    story = Story(new_job(**(GANG | changes)))
    story.look(0)
    story.launch(1, FIRST, SECOND)
    story.look(2)
    for one in (FIRST, SECOND):
        story.tell(TicketWritten(one), 3)
    story.look(60, heartbeats=beats(story, seq=1, step=10))
    return story


def beats(story: Story, *, seq: int, step: int = 10, first: Phase = Phase.TRAINING, second: Phase = Phase.TRAINING) -> dict[str, object]:
    return {FIRST: heartbeat(story.job, FIRST, seq=seq, step=step, phase=first), SECOND: heartbeat(story.job, SECOND, seq=seq, step=step, phase=second)}


def ticket(job: Job, instance_id: str) -> Ticket:
    return ticket_of(job, instance_id, data_bucket="data", outputs_bucket="outputs", heartbeat_s=30, rules=Rules(), now=START)


def ended(actions: tuple[object, ...]) -> list[str]:
    return [action.instance_id for action in actions if isinstance(action, Terminate)]


# --- the launch -----------------------------------------------------------------------------------------------------


def test_one_call_asks_for_all_instances_and_its_token_knows_how_many() -> None:
    plan = planned(Story(new_job(**GANG)).look(0))
    alone = planned(Story(new_job()).look(0))
    assert (plan.nodes, alone.nodes) == (2, 1)
    assert plan.client_token != alone.client_token


def test_a_whole_gang_is_one_attempt_and_waits_for_its_addresses() -> None:
    story = Story(new_job(**GANG))
    story.look(0)
    actions = story.launch(1, FIRST, SECOND)
    (attempt,) = story.job.attempts
    assert [one.instance_id for one in attempt.instances] == [FIRST, SECOND]
    assert of(WriteTicket, actions) == []
    assert of(LookAgain, actions) == [LookAgain()]


def test_tickets_are_owed_once_every_address_is_known() -> None:
    story = Story(new_job(**GANG))
    story.look(0)
    story.launch(1, FIRST, SECOND)
    hidden = story.states.pop(SECOND)
    assert of(WriteTicket, story.look(2)) == []
    story.states[SECOND] = hidden
    assert of(WriteTicket, story.look(3)) == [WriteTicket(FIRST), WriteTicket(SECOND)]
    story.tell(TicketWritten(FIRST), 4)
    assert of(WriteTicket, story.look(5)) == [WriteTicket(SECOND)]


def test_each_member_has_its_own_ticket_of_the_same_gang() -> None:
    story = begun()
    first, second = ticket(story.job, FIRST), ticket(story.job, SECOND)
    assert first.gang is not None
    assert second.gang is not None
    assert (first.gang.rank, second.gang.rank) == (0, 1)
    assert first.gang.members == second.gang.members == (first.writer, second.writer)
    assert first.gang.addresses == second.gang.addresses == ("10.0.0.4", "10.0.0.5")
    assert second.gang.leader_address == "10.0.0.4"
    assert first.earlier_writers == ()


def test_a_job_of_one_instance_has_no_gang_in_its_ticket_and_keeps_no_address() -> None:
    story = Story(new_job())
    story.running()
    assert ticket(story.job, FIRST).gang is None
    assert story.job.attempts[0].address == ""


def test_too_few_instances_are_ended_and_the_launch_has_failed() -> None:
    story = Story(new_job(**GANG))
    story.look(0)
    actions = story.launch(1, FIRST)
    assert ended(actions) == [FIRST]
    assert story.job.attempts == ()
    assert story.job.plan is None
    assert story.job.wait is not None
    assert story.job.wait.kind is WaitKind.CAPACITY
    assert "EC2 started 1 of 2 instances" in story.job.reason
    again = planned(story.look(60))
    assert again.try_number == 2


def test_instances_of_two_pools_are_no_gang() -> None:
    story = Story(new_job(compute={"instance_types": ["g5.xlarge", "g6.xlarge"], "nodes": 2}))
    plan = planned(story.look(0))
    near, far = plan.pools[0], plan.pools[-1]
    actions = story.tell(LaunchSucceeded(plan, (LaunchedInstance(FIRST, near, 0.4), LaunchedInstance(SECOND, far, 0.4))), 1)
    assert ended(actions) == [FIRST, SECOND]
    assert story.job.attempts == ()


def test_one_too_many_is_ended_and_the_gang_is_whole() -> None:
    story = Story(new_job(**GANG))
    story.look(0)
    assert ended(story.launch(1, FIRST, SECOND, THIRD)) == [THIRD]
    assert [one.instance_id for one in story.job.attempts[0].instances] == [FIRST, SECOND]


def test_a_lost_answer_is_found_by_tag_only_when_all_are_shown() -> None:
    story = Story(new_job(**GANG))
    plan = planned(story.look(0))
    story.states[FIRST] = ("pending", plan, "")
    assert of(CallLaunch, story.look(60)) == [CallLaunch(plan)]
    assert story.job.attempts == ()
    story.states[SECOND] = ("pending", plan, "")
    story.look(120)
    assert [one.instance_id for one in story.job.attempts[0].instances] == [FIRST, SECOND]


# --- a loss ---------------------------------------------------------------------------------------------------------


def test_a_members_warning_orders_a_replacement_and_the_others_to_hand_over() -> None:
    story = begun()
    story.tell(InterruptionWarned(SECOND), 100)
    actions = story.look(101, heartbeats=beats(story, seq=2))
    assert planned(actions).attempt == 2
    (order,) = of(WriteStop, actions)
    assert (order.instance_id, order.hand_over, order.terminate_at) == (FIRST, True, at(101 + 120 + 180))
    assert ended(actions) == []
    assert not story.job.attempts[0].serves


def test_the_leaders_warning_leaves_the_saving_to_it() -> None:
    story = begun()
    story.tell(InterruptionWarned(FIRST), 100)
    actions = story.look(101, heartbeats=beats(story, seq=2))
    assert [order.instance_id for order in of(WriteStop, actions)] == [SECOND]
    assert ended(actions) == []


def test_the_rest_is_ended_once_the_leader_has_handed_over() -> None:
    story = begun()
    story.tell(InterruptionWarned(SECOND), 100)
    story.look(101, heartbeats=beats(story, seq=2))
    story.tell(StopWritten(FIRST), 102)
    actions = story.look(130, heartbeats=beats(story, seq=3, first=Phase.HANDED_OVER))
    # The warned one is left to EC2: it is free only if EC2 ends it.
    assert ended(actions) == [FIRST]


def test_the_rest_is_ended_when_its_time_to_hand_over_is_over() -> None:
    story = begun()
    story.gone(SECOND)
    story.tell(InstanceChanged(SECOND, "terminated"), 100)
    assert ended(story.look(101, heartbeats=beats(story, seq=2))) == []
    assert ended(story.look(399, heartbeats=beats(story, seq=3))) == []
    assert ended(story.look(402, heartbeats=beats(story, seq=4))) == [FIRST]


def test_a_gang_that_lost_its_leader_is_ended_at_once() -> None:
    story = begun()
    story.gone(FIRST)
    actions = story.look(101, heartbeats=beats(story, seq=2))
    assert ended(actions) == [SECOND]
    assert planned(actions).attempt == 2


def test_a_gang_that_loses_one_before_it_began_gets_no_tickets_and_is_ended() -> None:
    story = Story(new_job(**GANG))
    story.look(0)
    story.launch(1, FIRST, SECOND)
    story.gone(SECOND)
    actions = story.look(2)
    assert of(WriteTicket, actions) == []
    assert ended(actions) == [FIRST]


def test_a_silent_member_is_ended_and_its_gang_with_it() -> None:
    story = begun()
    alive = heartbeat(story.job, FIRST, seq=9, step=20)
    actions = story.look(361, heartbeats={FIRST: alive, SECOND: heartbeat(story.job, SECOND, seq=1, step=10)})
    assert ended(actions) == [SECOND]
    story.tell(TerminationAnswered(SECOND, "shutting-down"), 362)
    actions = story.look(363, heartbeats={FIRST: alive})
    assert [order.instance_id for order in of(WriteStop, actions)] == [FIRST]
    assert planned(actions).attempt == 2


def test_a_member_that_has_finished_may_go_before_its_leader() -> None:
    story = begun()
    story.gone(SECOND)
    actions = story.look(101, heartbeats=beats(story, seq=2, first=Phase.UPLOADING, second=Phase.FINISHED))
    assert of(WriteStop, actions) == []
    assert of(CallLaunch, actions) == []
    actions = story.look(130, heartbeats=beats(story, seq=3, first=Phase.FINISHED, second=Phase.FINISHED), markers={FIRST: marker(story.job, FIRST)})
    assert story.job.state is JobState.SUCCEEDED
    assert ended(actions) == [FIRST]


def test_a_failure_is_not_final_where_ec2_took_another_of_the_gang() -> None:
    story = begun()
    story.gone(SECOND, "Server.SpotInstanceTermination")
    story.look(100, heartbeats=beats(story, seq=2), markers={FIRST: marker(story.job, FIRST, Outcome.FAILED, FailureCode.TRAINER_ERROR)})
    assert not story.job.ended
    alone = begun()
    alone.look(100, heartbeats=beats(alone, seq=2), markers={FIRST: marker(alone.job, FIRST, Outcome.FAILED, FailureCode.TRAINER_ERROR)})
    assert alone.job.state is JobState.FAILED


def test_the_next_gang_waits_for_the_leader_of_the_one_before() -> None:
    story = begun()
    story.tell(InterruptionWarned(SECOND), 100)
    story.look(101, heartbeats=beats(story, seq=2))
    story.launch(102, THIRD, FOURTH)
    story.look(103, heartbeats=beats(story, seq=3))
    for one in (THIRD, FOURTH):
        found = ticket(story.job, one)
        assert [(handover.writer, handover.until) for handover in found.handovers] == [("AROATEST:" + FIRST, at(101 + 150))]
        assert found.earlier_writers == ("AROATEST:" + FIRST,)


def test_an_interrupted_gang_is_told_of_once_and_counted_once() -> None:
    story = begun(notify={"on": ["interrupted", "relaunched"]})
    before = story.job
    story.tell(InterruptionWarned(SECOND), 100)
    story.tell(InterruptionWarned(FIRST), 101)
    assert [notice.kind for notice in story.job.notices] == [NoticeKind.INTERRUPTED]
    assert measures.happened(before, story.job) == {"Interruptions": 1}
    story.look(102)
    story.launch(103, THIRD, FOURTH)
    _, body = letter_of(story.job, story.job.notices[-1], STACK, at(104))
    assert f"has its instances: {THIRD}, {FOURTH}, g5.xlarge" in body


def test_how_a_gang_ended_names_the_instance_that_was_lost() -> None:
    story = begun()
    story.gone(SECOND)
    story.look(100, heartbeats=beats(story, seq=2))
    story.gone(FIRST)
    story.look(200, heartbeats=beats(story, seq=3, first=Phase.HANDED_OVER))
    (attempt,) = story.job.attempts
    assert (attempt.end, attempt.ended_by) == (AttemptEnd.DIED, "unknown")
    assert attempt.end_reason == f"{SECOND}, one of its 2 instances, was lost; handed over"


def test_a_notice_in_a_members_heartbeat_counts() -> None:
    story = begun()
    beat = heartbeat(story.job, SECOND, seq=2, phase=Phase.SAVING, notice=Notice(kind="interruption", at=at(220)))
    story.look(100, heartbeats={FIRST: heartbeat(story.job, FIRST, seq=2), SECOND: beat})
    assert story.job.attempts[0].others[0].warned_at == at(100)
    assert story.job.plan is not None


# --- money, time, and what people see -------------------------------------------------------------------------------


def test_every_instance_is_paid_for_and_time_counts_once() -> None:
    job = begun().job
    alone = Story(new_job())
    alone.running()
    now = at(3601)
    assert ledger.job_cost_usd(job, now) == 2 * ledger.job_cost_usd(alone.job, now) == 0.8
    assert ledger.burn_usd_per_h(job) == 0.8
    assert ledger.job_runtime_s(job, now) == 3600
    assert ledger.by_month(job, now) == {"2026-11": 0.8}
    found, single = ledger.receipt(job, now, 150), ledger.receipt(alone.job, now, 150)
    assert found.on_demand_usd == round(2 * single.on_demand_usd, 4)
    assert found.volumes_usd == round(2 * 150 * 0.08 / 730, 4)
    assert found.runtime_s == 3600


def test_of_a_gang_only_what_ec2_itself_took_is_free() -> None:
    story = begun()
    story.tell(InterruptionWarned(SECOND), 100)
    story.look(101, heartbeats=beats(story, seq=2))
    story.tell(TerminationAnswered(FIRST, "shutting-down"), 1801)
    story.gone(FIRST)
    story.gone(SECOND, "Server.SpotInstanceTermination")
    story.look(1801, heartbeats=beats(story, seq=2))
    (attempt,) = story.job.attempts
    assert (attempt.end, attempt.ended_by) == (AttemptEnd.INTERRUPTED, "ec2")
    assert ledger.cost_usd(attempt, at(9999)) == 0.2
    assert not ledger.is_free(attempt)


def test_the_budget_is_of_all_instances() -> None:
    story = begun(limits={"budget_usd": 0.4})
    story.look(1500, heartbeats=beats(story, seq=2))
    assert story.job.ending is None
    actions = story.look(1700, heartbeats=beats(story, seq=3))
    assert story.job.ending is not None
    assert {order.instance_id for order in of(WriteStop, actions)} == {FIRST, SECOND}


def test_a_stop_ends_with_the_last_instance() -> None:
    story = begun(limits={"budget_usd": 0.4})
    story.look(1700, heartbeats=beats(story, seq=2))
    story.gone(SECOND)
    story.look(1720, heartbeats=beats(story, seq=3))
    assert not story.job.ended
    story.gone(FIRST)
    story.look(1730, heartbeats=beats(story, seq=4))
    assert story.job.state is JobState.STOPPED_BUDGET


def test_a_job_is_not_settled_before_its_last_instance_is_gone() -> None:
    story = begun()
    story.gone(FIRST)
    story.look(100, heartbeats=beats(story, seq=2, first=Phase.FINISHED), markers={FIRST: marker(story.job, FIRST)})
    assert story.job.state is JobState.SUCCEEDED
    assert story.job.occupies
    assert ended(story.decisions[-1].actions) == [SECOND]


def test_the_status_names_every_instance() -> None:
    job = begun().job
    (shown,) = status_of(job, STACK, at(100)).attempts
    assert (shown.instance_id, shown.others, shown.ended_at) == (FIRST, (SECOND,), None)


def test_the_end_letter_says_how_many() -> None:
    story = begun()
    story.look(100, heartbeats=beats(story, seq=2), markers={FIRST: marker(story.job, FIRST)})
    _, body = letter_of(story.job, story.job.notices[-1], STACK, at(3601))
    assert "on 2 instance(s)" in body
    assert "1. 2 x g5.xlarge us-east-1a spot" in body


def test_the_quota_letter_says_what_all_of_them_need_at_once() -> None:
    story = Story(new_job(**GANG))
    plan = planned(story.look(0))
    story.tell(LaunchRefused(plan, RefusalKind.QUOTA, "MaxSpotInstanceCountExceeded: EC2's words"), 1)
    _, body = letter_of(story.job, story.job.notices[-1], STACK, at(2))
    assert "All of its 2 instances are asked for at once: 8 vCPU for 2 x g5.xlarge." in body


# --- relief ---------------------------------------------------------------------------------------------------------


def test_an_on_demand_gang_hands_over_to_a_spot_gang_whole() -> None:
    story = begun()
    (working,) = story.job.attempts
    story.job = story.job.with_attempt(working.model_copy(update={"plan": working.plan.model_copy(update={"market": Market.ON_DEMAND})}))
    plan = working.plan.model_copy(update={"attempt": 2, "client_token": "df-other"})
    story.job = story.job.model_copy(update={"plan": plan})
    story.launch(100, THIRD, FOURTH)
    waiting = {one: heartbeat(story.job, one, seq=1, phase=Phase.WAITING) for one in (THIRD, FOURTH)}
    story.look(200, heartbeats=beats(story, seq=2) | waiting)
    assert story.job.attempts[0].relieved_at == at(200)
    orders = of(WriteStop, story.decisions[-1].actions)
    assert [(order.instance_id, order.hand_over) for order in orders] == [(FIRST, True), (SECOND, True)]
    actions = story.look(230, heartbeats=beats(story, seq=3, first=Phase.HANDED_OVER) | waiting)
    assert set(ended(actions)) == {FIRST, SECOND}


# --- what is stored -------------------------------------------------------------------------------------------------


def test_a_job_that_was_saved_before_there_were_gangs_is_read() -> None:
    story = Story(new_job())
    story.running()
    document = story.job.model_dump(mode="json")
    for attempt in document["attempts"]:
        for name in ("others", "address", "broken_at"):
            del attempt[name]
        del attempt["plan"]["nodes"]
    del document["manifest"]["compute"]["nodes"]
    assert Job.model_validate(document) == story.job


def test_what_the_members_last_said_is_kept_while_it_is_asked_for_and_no_longer() -> None:
    story = begun()
    assert all(one.heartbeat is not None for one in story.job.attempts[0].instances)
    story.tell(InterruptionWarned(SECOND), 100)
    for one in (FIRST, SECOND):
        story.gone(one, "Server.SpotInstanceTermination")
    story.look(101, heartbeats=beats(story, seq=2))
    story.look(160)
    leader, member = story.job.attempts[0].instances
    assert leader.heartbeat is not None
    assert member.heartbeat is None


def test_rules_shorten_the_time_to_hand_over() -> None:
    story = begun()
    story.gone(SECOND)
    rules = replace(Rules(), notice_s=5.0)
    story.look(100, heartbeats=beats(story, seq=2), rules=rules)
    assert ended(story.look(100 + 5 + 179, heartbeats=beats(story, seq=3), rules=rules)) == []
    assert ended(story.look(100 + 5 + timedelta(minutes=3).seconds, heartbeats=beats(story, seq=4), rules=rules)) == [FIRST]
