"""Which region a job's next instance is asked for in: prices in force, what crosses regions, who has just refused. And what it costs."""

import re
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from control_plane.core import egress, ledger, placement
from control_plane.core.accept import late_problems
from control_plane.core.actions import CallLaunch, Terminate
from control_plane.core.attempts import noted
from control_plane.core.events import InstanceSight, LaunchRefused, Offers
from control_plane.core.failures import RefusalKind
from control_plane.core.history import history_of
from control_plane.core.launching import instances_of_plan
from control_plane.core.ledger import GIB, IMAGE_GIB
from control_plane.core.letters import letter_of
from control_plane.core.records import Egress, LaunchPlan, Market, TrainedFrom
from control_plane.core.state import Job, JobState, Notice, NoticeKind, WaitKind
from jobspec import tags
from jobspec.regions import ELSEWHERE, region_of, transfer_usd_per_gib
from tests.core.worlds import FIRST, OFFERS, STACK, START, Story, at, heartbeat, new_job, of, planned

HOME, PEER = "us-east-1", "us-west-2"
KINDS = (RefusalKind.CAPACITY, RefusalKind.QUOTA, RefusalKind.CONFIGURATION)


def offers(home_usd: float = 0.4, peer_usd: float = 0.4, *, usd_per_gib: float = 0.02) -> Offers:
    """g5.xlarge at these spot prices, in two zones at home and one abroad; on-demand is $1.006."""
    peer = Offers(
        {"us-west-2a": "subnet-w"},
        "lt-2",
        "3",
        "AROATEST",
        {("g5.xlarge", "us-west-2a"): peer_usd},
        Egress(in_usd_per_gib=usd_per_gib, out_usd_per_gib=usd_per_gib),
    )
    return replace(OFFERS, spot_usd_per_h={("g5.xlarge", zone): home_usd for zone in OFFERS.subnets}, peers=(peer,))


def job_in(*regions: str, market: str = "spot", **limits: Any) -> Job:
    return new_job(compute={"market": market, "regions": list(regions)}, limits=limits)


def refuse(story: Story, plan: LaunchPlan, seconds: float, kind: RefusalKind = RefusalKind.CAPACITY) -> tuple[Any, ...]:
    return story.tell(LaunchRefused(plan, kind, "none", plan.pools), seconds)


def test_a_job_that_names_no_region_stays_at_home_whatever_it_costs() -> None:
    plan = planned(Story(new_job()).look(0, offers=offers(0.9, 0.1)))
    assert (plan.region, plan.egress, plan.elsewhere) == (HOME, None, False)


def test_one_call_is_for_one_region_with_its_own_template_and_its_own_pools() -> None:
    plan = planned(Story(job_in(HOME, PEER)).look(0, offers=offers(0.9, 0.2)))
    assert [pool.subnet_id for pool in plan.pools] == ["subnet-w"]
    assert (plan.region, plan.template_id, plan.template_version, plan.elsewhere) == (PEER, "lt-2", "3", True)


@pytest.mark.parametrize("market", ["spot", "cheapest"])
def test_a_region_that_is_little_cheaper_loses_for_what_crosses_regions(market: str) -> None:
    """16 GiB at a start and 2 GiB an hour at two cents: 38 cents over a life of 51 minutes, and 4 cents an hour."""
    for home_usd, peer_usd, region in ((0.45, 0.39, HOME), (0.45, 0.1, HOME), (0.95, 0.3, PEER)):
        assert planned(Story(job_in(HOME, PEER, market=market)).look(0, offers=offers(home_usd, peer_usd))).region == region, (home_usd, peer_usd)
    assert planned(Story(job_in(HOME, PEER, market=market)).look(0, offers=offers(0.45, 0.39, usd_per_gib=0.0))).region == PEER, "nothing to pay between them"


@pytest.mark.parametrize("kind", KINDS)
def test_a_region_that_refuses_leaves_the_job_to_the_next_at_once(kind: RefusalKind) -> None:
    story = Story(job_in(HOME, PEER))
    refuse(story, planned(story.look(0, offers=offers())), 1, kind)
    assert story.job.wait is not None
    assert story.job.wait.kind is WaitKind.CAPACITY
    plan = planned(story.look(1, offers=offers()))
    assert (plan.region, plan.elsewhere) == (PEER, False), "home has just refused"
    assert any(notice.kind is NoticeKind.QUOTA for notice in story.job.notices) is (kind is RefusalKind.QUOTA)


def test_once_every_region_has_refused_the_job_waits_as_ever() -> None:
    story = Story(job_in(HOME, PEER))
    for seconds in (0, 1):
        refuse(story, planned(story.look(seconds, offers=offers())), seconds)
    assert not of(CallLaunch, story.look(5, offers=offers())), "it is waited out, not hammered"
    plan = planned(story.look(62, offers=offers()))
    refuse(story, plan, 62)
    assert not of(CallLaunch, story.look(67, offers=offers()))


def test_a_mistake_in_another_regions_stack_does_not_end_the_job() -> None:
    story = Story(job_in(PEER))
    plan = planned(story.look(0, offers=offers()))
    refuse(story, plan, 1, RefusalKind.CONFIGURATION)
    assert (story.job.state, story.job.wait and story.job.wait.kind) == (JobState.WAITING, WaitKind.CAPACITY)


def test_on_demand_is_asked_for_at_home_first_and_abroad_when_home_has_none() -> None:
    story = Story(job_in(HOME, PEER, market="on-demand"))
    plan = planned(story.look(0, offers=offers()))
    assert (plan.region, plan.market) == (HOME, Market.ON_DEMAND)
    refuse(story, plan, 1)
    assert planned(story.look(1, offers=offers())).region == PEER


def test_both_regions_spot_is_asked_before_on_demand_is_paid_for() -> None:
    story, asked = Story(job_in(HOME, PEER, market="cheapest")), []
    for seconds in range(4):
        plan = planned(story.look(seconds, offers=offers()))
        asked.append((plan.market.value, plan.region))
        refuse(story, plan, seconds)
    assert asked == [("spot", HOME), ("spot", PEER), ("on-demand", HOME), ("on-demand", PEER)]


def test_a_region_that_cannot_be_read_is_waited_for_where_no_other_may_be_asked() -> None:
    story = Story(job_in(PEER))
    assert not of(CallLaunch, story.look(0, offers=replace(offers(), peers=())))
    assert story.job.state is JobState.WAITING
    assert "us-west-2 cannot be read now" in story.job.reason


def test_a_region_without_a_peer_is_refused_at_submit_and_a_peer_that_cannot_be_read_is_not() -> None:
    def problems(regions: tuple[str, ...], *zones: str) -> list[str]:
        compute = {"regions": list(regions)} | ({"zones": list(zones)} if zones else {})
        manifest = new_job(compute=compute).manifest
        assert manifest is not None
        return [problem.path for problem in late_problems(manifest, replace(offers(), peers=()), (PEER,), START)]

    assert problems((HOME, "eu-west-1")) == ["compute.regions"]
    assert problems((HOME, PEER)) == []
    assert problems((PEER,), "us-west-2a") == []
    assert problems((HOME,), "eu-west-1a") == ["compute.zones"]


def test_an_instance_is_ended_in_the_region_where_it_lives() -> None:
    story = Story(job_in(PEER))
    story.look(0, offers=offers())
    story.launch(1, FIRST)
    (ended,) = of(Terminate, story.look(2000, offers=offers()))
    assert (ended.instance_id, region_of(ended.zone)) == (FIRST, PEER)


# --- what it costs ----------------------------------------------------------------------------------------------------


def abroad(read_gib: float, written_gib: float, hours: float = 2) -> Job:
    story = Story(job_in(PEER))
    story.look(0, offers=offers())
    story.launch(0, FIRST, usd_per_h=0.4)
    beat = heartbeat(story.job, FIRST, seq=1, step=10).model_copy(update={"read_bytes": int(read_gib * GIB), "written_bytes": int(written_gib * GIB)})
    story.look(hours * 3600 - 1, heartbeats={FIRST: beat}, offers=offers())
    return story.job


def test_what_crossed_regions_is_on_the_bill_at_the_prices_of_the_plan() -> None:
    job = abroad(20, 5)
    crossed = (IMAGE_GIB + 20 + 5) * 0.02
    now = at(7200)
    assert ledger.egress_usd(job.attempts[0]) == pytest.approx(crossed)
    assert ledger.job_cost_usd(job, now) == pytest.approx(0.8 + crossed)
    assert sum(ledger.by_month(job, now).values()) == pytest.approx(ledger.job_cost_usd(job, now))
    receipt = ledger.receipt(job, now, 150)
    assert (receipt.egress_usd, receipt.cost_usd) == (pytest.approx(crossed), pytest.approx(0.8 + crossed))
    assert "other than between regions" in receipt.note


def test_the_letter_of_the_end_says_what_crossed_regions_and_its_attempts_add_up_to_the_receipt() -> None:
    job = abroad(20, 5).model_copy(update={"state": JobState.STOPPED_BUDGET})
    _, body = letter_of(job, Notice(notice_id="x", kind=NoticeKind.END, owed_at=START), STACK, at(7200))
    crossed = (IMAGE_GIB + 20 + 5) * 0.02
    assert f"Cost: ${0.8 + crossed:.4f}, ${crossed:.4f} of it for data between regions; on-demand" in body
    _, dear = letter_of(
        abroad(100, 5).model_copy(update={"state": JobState.STOPPED_BUDGET}), Notice(notice_id="x", kind=NoticeKind.END, owed_at=START), STACK, at(7200)
    )
    assert re.search(r"on-demand would have cost \$2\.0120; \$1\.0080 less\n", dear)
    assert f"us-west-2a spot: 2h, steps 0-10, $0.8000 + ${crossed:.4f} between regions, running" in body


def test_a_free_first_hour_is_not_free_of_what_crossed_regions() -> None:
    job = noted(abroad(20, 5, hours=0.5), FIRST, gone_at=START + timedelta(minutes=30))
    free = job.attempts[0].model_copy(update={"ended_by": "ec2"})
    assert ledger.job_cost_usd(job.with_attempt(free), at(7200)) == pytest.approx((IMAGE_GIB + 25) * 0.02)


def test_at_home_nothing_crosses() -> None:
    story = Story(new_job())
    story.running()
    receipt = ledger.receipt(story.job, at(3600), 150)
    assert receipt.egress_usd == 0
    assert "regions" not in receipt.note


def test_a_jobs_own_traffic_replaces_the_guess() -> None:
    assert egress.traffic_of(new_job(), START) == egress.Traffic(egress.PRIOR_READ_GIB + IMAGE_GIB, egress.PRIOR_WRITTEN_GIB_PER_H)
    job = abroad(20, 5)
    trained = job.with_attempt(job.attempts[0].model_copy(update={"trained_from": TrainedFrom(at=START, step=0, seen_at=START)}))
    measured = egress.traffic_of(trained, at(7200))
    assert (measured.read_gib, round(measured.written_gib_per_h, 3)) == (20 + IMAGE_GIB, 2.5)


def test_the_region_that_sends_has_the_price_and_an_unlisted_one_is_taken_for_the_dearest() -> None:
    assert transfer_usd_per_gib(HOME, HOME) == 0
    assert transfer_usd_per_gib(HOME, PEER) == 0.02
    assert transfer_usd_per_gib(HOME, "us-east-2") == 0.01
    assert [transfer_usd_per_gib(sender, HOME) for sender in ("ap-southeast-2", "us-gov-west-1", "eu-west-3", "af-south-1")] == [0.098, 0.03, 0.02, 0.147]
    assert transfer_usd_per_gib(HOME, "ap-southeast-2") == 0.02
    assert transfer_usd_per_gib("mx-central-1", HOME) == ELSEWHERE == 0.147


# --- on-demand, which costs more in most regions than in the one that the types' table is of --------------------------------


def in_frankfurt(market: str, home: Offers | None = None, **limits: Any) -> tuple[Story, Offers]:
    """A stack whose home is eu-central-1, where a g5.xlarge is $1.258 an hour on-demand ($1.006 in us-east-1)."""
    there = home or replace(OFFERS, subnets={"eu-central-1a": "subnet-f"}, spot_usd_per_h={("g5.xlarge", "eu-central-1a"): 0.4})
    return Story(new_job(compute={"market": market}, limits=limits)), there


def test_a_budget_is_held_by_the_on_demand_price_of_the_region_that_the_instance_runs_in() -> None:
    story, there = in_frankfurt("on-demand", budget_usd=5.0)
    story.look(0, offers=there)
    story.launch(0, FIRST, usd_per_h=1.258)
    for minute in range(1, 60 * 6):
        beat = heartbeat(story.job, FIRST, seq=minute, step=minute)
        story.look(minute * 60, heartbeats={FIRST: beat}, offers=there)
        if story.job.ending is not None:
            break
    assert story.job.ending is not None
    assert story.job.ending.state is JobState.STOPPED_BUDGET
    paid_usd = minute / 60 * 1.258
    assert 4.9 < paid_usd <= 5.0, "by AWS's bill, not by us-east-1's price"
    assert "on-demand prices of eu-central-1 as of" in ledger.receipt(story.job, at(minute * 60), 150).note


def test_an_adopted_instance_and_a_dear_spot_price_are_bounded_by_the_regions_own_on_demand_price() -> None:
    story, there = in_frankfurt("spot")
    story.look(0, offers=there)
    story.launch(0, FIRST, usd_per_h=1.2)
    assert (story.job.attempts[0].usd_per_h, story.job.attempts[0].on_demand_usd_per_h) == (1.2, 1.258)
    story, there = in_frankfurt("on-demand")
    call = planned(story.look(0, offers=there))
    born = InstanceSight(FIRST, "running", {tags.LAUNCH: call.client_token}, at(0), "g5.xlarge", "eu-central-1a")
    (found,) = instances_of_plan(story.job, call, (born,))
    assert found.usd_per_h == 1.258


def test_a_receipt_says_so_where_a_regions_price_is_not_known() -> None:
    story, there = in_frankfurt("on-demand", replace(OFFERS, subnets={"mx-central-1a": "subnet-m"}))
    story.look(0, offers=there)
    story.launch(0, FIRST, usd_per_h=1.0)
    assert story.job.attempts[0].on_demand_usd_per_h > 1.7
    assert "mx-central-1 (not known: taken as the dearest region's)" in ledger.receipt(story.job, at(3600), 150).note


def test_on_demand_is_asked_for_where_the_work_that_is_left_costs_least_with_what_crosses_regions() -> None:
    """Of home, $1.258 an hour, and us-west-2, $1.006 with 16 GiB to bring and 2 GiB an hour to write: abroad pays from two hours of work on."""

    def asked(hours: float, usd_per_gib: float) -> str:
        there = replace(offers(usd_per_gib=usd_per_gib), subnets={"eu-central-1a": "subnet-f"})
        job = job_in("eu-central-1", PEER, market="on-demand", max_runtime=f"{hours}h")
        return planned(Story(job).look(0, offers=there)).region

    assert asked(10, 0.02) == PEER
    assert asked(1, 0.02) == "eu-central-1", "bringing the data would cost more than an hour saves"
    assert asked(10, 0.2) == "eu-central-1"


def test_what_spot_would_save_is_reckoned_from_the_on_demand_instance_that_works_not_from_the_cheapest_there_could_be() -> None:
    there = replace(offers(), subnets={"eu-central-1a": "subnet-f"})
    story = Story(job_in("eu-central-1", PEER, market="cheapest", max_runtime="1h"))
    waiting = placement.situation_of(story.job, there, (), history_of(story.job, at(0)), at(0))
    assert waiting.on_demand_usd_per_h == pytest.approx(1.006 + 0.02 * egress.PRIOR_WRITTEN_GIB_PER_H)
    plan = planned(story.look(0, offers=there))
    while plan.market is not Market.ON_DEMAND:
        refuse(story, plan, 1)
        plan = planned(story.look(1, offers=there))
    story.launch(2, FIRST)
    assert plan.region == "eu-central-1"
    working = placement.situation_of(story.job, there, (), history_of(story.job, at(60)), at(60), running="on-demand")
    assert working.on_demand_usd_per_h == 1.258


def test_spot_that_costs_more_than_us_east_1s_on_demand_still_pays_in_a_dear_region() -> None:
    story, there = in_frankfurt("cheapest")
    call = planned(story.look(0, offers=replace(there, spot_usd_per_h={("g5.xlarge", "eu-central-1a"): 1.05})))
    assert call.market is Market.SPOT
