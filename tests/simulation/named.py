"""Scenarios with a name. Short ones, for every call of those in ``EXHAUSTIBLE`` is broken in every way.

``CORE`` are the five in which two faults are tried together, every pair of them.
"""

from dataclasses import replace

from tests.simulation.scenario import BoxPlan, CallFault, Drought, JobPlan, Outage, Scenario

#: A job of less than a minute: manifest, launch, two saves, marker, end.
SHORT = JobPlan(steps=3, step_s=10.0, save_every_s=12.0)
LONG = replace(SHORT, steps=20)
QUICK = BoxPlan(boot_s=5.0, ending_s=2.0, save_s=3.0)
_WARNED = replace(QUICK, interrupted_s=30.0, notice_s=39.0)

_NOTHING_AT_HOME = Drought(0.0, 20.0, "spot", "InsufficientInstanceCapacity", "us-east-1")

CORE: dict[str, Scenario] = {
    "one job, start to end": Scenario(jobs=(SHORT,), boxes=(QUICK,)),
    "an interruption with notice": Scenario(jobs=(SHORT,), boxes=(_WARNED, QUICK)),
    "a silent death": Scenario(jobs=(SHORT,), boxes=(replace(QUICK, fault="dies", at_s=15.0), QUICK)),
    "a cancellation while it runs": Scenario(jobs=(replace(SHORT, actions=((40.0, "delete"),)),), boxes=(QUICK,)),
    "no spot, then on-demand": Scenario(
        jobs=(replace(SHORT, market="cheapest"),), boxes=(QUICK,), droughts=(Drought(0.0, 600.0, "spot", "InsufficientInstanceCapacity"),)
    ),
}

MORE: dict[str, Scenario] = {
    "all of it abroad": Scenario(jobs=(replace(LONG, steps=60),), boxes=(QUICK,), droughts=(_NOTHING_AT_HOME,), two_regions=True),
    "cancelled abroad": Scenario(jobs=(replace(LONG, steps=60, actions=((60.0, "delete"),)),), boxes=(QUICK,), droughts=(_NOTHING_AT_HOME,), two_regions=True),
    "no timer and no tick abroad": Scenario(
        jobs=(replace(LONG, max_runtime_s=120),),
        boxes=(replace(QUICK, fault="no timer"),),
        droughts=(_NOTHING_AT_HOME,),
        outages=(Outage(30.0, 1500.0, "tick"), Outage(30.0, 1500.0, "events")),
        two_regions=True,
    ),
    "a region runs dry": Scenario(
        jobs=(LONG,), boxes=(_WARNED, QUICK), droughts=(Drought(20.0, 3000.0, "spot", "InsufficientInstanceCapacity", "us-east-1"),), two_regions=True
    ),
    "an interruption without notice": Scenario(jobs=(SHORT,), boxes=(replace(_WARNED, notice_s=0.0), QUICK)),
    "a notice that only the metadata tells": Scenario(jobs=(SHORT,), boxes=(replace(_WARNED, event=False), QUICK)),
    "a notice that only the bus tells": Scenario(jobs=(SHORT,), boxes=(replace(_WARNED, imds=False), QUICK)),
    "two interruptions": Scenario(jobs=(LONG,), boxes=(_WARNED, _WARNED, QUICK)),
    "it finishes in its notice": Scenario(jobs=(SHORT,), boxes=(replace(QUICK, interrupted_s=35.0, notice_s=120.0, imds=False), QUICK)),
    "cancelled before its launch": Scenario(jobs=(replace(SHORT, actions=((0.2, "delete"),)),), boxes=(QUICK,)),
    "an unreadable manifest": Scenario(jobs=(replace(SHORT, valid=False),)),
    "put over an active job": Scenario(jobs=(replace(SHORT, actions=((30.0, "overwrite"), (34.0, "spoil"))),), boxes=(QUICK, QUICK)),
    "the money is up": Scenario(jobs=(replace(LONG, steps=40, budget_usd=0.03),), boxes=(QUICK,)),
    "the time is up": Scenario(jobs=(replace(LONG, max_runtime_s=120),), boxes=(QUICK,)),
    "the deadline is past": Scenario(jobs=(replace(LONG, deadline_s=130),), boxes=(QUICK,)),
    "a quota": Scenario(jobs=(replace(SHORT, max_wait_s=300),), droughts=(Drought(0.0, 900.0, "spot", "MaxSpotInstanceCountExceeded"),)),
    "a dead box": Scenario(jobs=(SHORT,), boxes=(replace(QUICK, fault="user data fails"), QUICK)),
    "a failure for good": Scenario(jobs=(SHORT,), boxes=(replace(QUICK, fault="fails for good", at_s=10.0),)),
    "a failure that may do better elsewhere": Scenario(jobs=(SHORT,), boxes=(replace(QUICK, fault="fails, may do better elsewhere", at_s=10.0), QUICK)),
    "a marker with a wrong hash": Scenario(jobs=(SHORT,), boxes=(replace(QUICK, fault="marker with a wrong hash"), QUICK)),
    "one instance too many": Scenario(jobs=(SHORT,), boxes=(QUICK, QUICK), too_many=(0,)),
    "two jobs, one turn": Scenario(jobs=(SHORT, replace(SHORT, priority="high")), boxes=(QUICK, QUICK), max_concurrent_jobs=1),
    "three jobs at once": Scenario(jobs=(SHORT, SHORT, SHORT), boxes=(QUICK, QUICK, QUICK), max_concurrent_jobs=2),
    "seen late": Scenario(jobs=(SHORT,), boxes=(replace(QUICK, hidden_s=70.0), QUICK), index_lag_s=20.0),
    "no tick for a while": Scenario(jobs=(SHORT,), boxes=(_WARNED, QUICK), outages=(Outage(30.0, 400.0, "tick"),)),
    "no event at all": Scenario(jobs=(SHORT,), boxes=(QUICK,), outages=(Outage(0.5, 1000.0, "events"),)),
    "an idle GPU, stopped": Scenario(jobs=(replace(LONG, steps=60, stops_idle=True),), boxes=(replace(QUICK, gpus=1, idle_gpus=1),)),
    "one idle GPU of two": Scenario(jobs=(replace(LONG, steps=60, stops_idle=True),), boxes=(replace(QUICK, gpus=2, idle_gpus=1),)),
    "one job after another": Scenario(jobs=(SHORT, replace(SHORT, after=0)), boxes=(QUICK, QUICK)),
    "a job whose forerunner fails": Scenario(jobs=(SHORT, replace(SHORT, after=0)), boxes=(replace(QUICK, fault="fails for good", at_s=10.0),)),
    "a sweep of three, two at a time": Scenario(jobs=(replace(SHORT, sweep=3),), boxes=(QUICK,) * 3),
    "a sweep that is cancelled": Scenario(jobs=(replace(LONG, sweep=3, actions=((60.0, "delete"),)),), boxes=(QUICK,) * 3),
    "a sweep of which one job is cancelled": Scenario(jobs=(replace(LONG, sweep=3, actions=((60.0, "cancel one"),)),), boxes=(QUICK,) * 3),
    "a sweep of which one job is cancelled before it starts": Scenario(
        jobs=(replace(SHORT, sweep=3, concurrency=1, actions=((20.0, "cancel a later one"),)),), boxes=(QUICK,) * 3
    ),
    "a job that is cancelled before it starts, and nobody hears of it": Scenario(
        jobs=(replace(SHORT, sweep=3, concurrency=1, actions=((20.0, "cancel a later one"),)),), boxes=(QUICK,) * 3, outages=(Outage(15.0, 30.0, "events"),)
    ),
    "a sweep whose money is up": Scenario(jobs=(replace(SHORT, sweep=4, concurrency=1, sweep_usd=0.02),), boxes=(QUICK,) * 4),
    "two hours of a schedule": Scenario(jobs=(replace(SHORT, hours=2),), boxes=(QUICK,) * 2),
    "a gang, start to end": Scenario(jobs=(replace(SHORT, nodes=2),), boxes=(QUICK, QUICK)),
    "a member under notice": Scenario(jobs=(replace(LONG, nodes=2),), boxes=(QUICK, _WARNED, QUICK, QUICK)),
    "a leader under notice": Scenario(jobs=(replace(LONG, nodes=2),), boxes=(_WARNED, QUICK, QUICK, QUICK)),
    "a member that dies": Scenario(jobs=(replace(LONG, nodes=2),), boxes=(QUICK, replace(QUICK, fault="dies", at_s=40.0), QUICK, QUICK)),
    "a gang of which one is taken before it boots, and the other never does": Scenario(
        jobs=(replace(LONG, steps=60, nodes=2),),
        boxes=(replace(QUICK, boot_s=350.0, interrupted_s=180.0, notice_s=0.0), replace(QUICK, fault="dead on arrival"), QUICK, QUICK),
    ),
    "a gang whose one is seen late": Scenario(jobs=(replace(SHORT, nodes=2),), boxes=(QUICK, replace(QUICK, hidden_s=70.0))),
    "one too few of a gang": Scenario(jobs=(replace(SHORT, nodes=3),), too_few=(0,)),
    "every e-mail asked for": Scenario(jobs=(replace(SHORT, notify=("accepted", "interrupted", "relaunched", "waiting", "budget")),), boxes=(_WARNED, QUICK)),
}

#: Worse than EC2 is known to be: an instance that no call shows for longer than one is waited for (``attempts.MISSING_FOR``), so that only
#: the sweep is left. Run as they are: with one fault more a job may be settled while such an instance lives.
WORSE: dict[str, Scenario] = {
    "a launch abroad that nobody knows of": Scenario(
        jobs=(replace(SHORT, actions=((6.0, "delete"),)),),
        boxes=(replace(QUICK, fault="dead on arrival", hidden_s=900.0),),
        calls=(CallFault("ec2.create_fleet", 1, "effect, then unknown outcome"),),
        droughts=(_NOTHING_AT_HOME,),
        two_regions=True,
    ),
}
EXHAUSTIBLE = CORE | MORE
ALL = EXHAUSTIBLE | WORSE
