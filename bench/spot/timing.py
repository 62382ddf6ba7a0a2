"""How long one decision takes: ``place`` of the control plane, for a job with 60 pools and a history. ``python -m bench.spot.timing``."""

import time
from datetime import UTC, datetime, timedelta

from control_plane.core.accept import accepted
from control_plane.core.events import Offers
from control_plane.core.history import history_of
from control_plane.core.placement import place, pools_of
from control_plane.core.records import Attempt, AttemptEnd, LaunchPlan, Market
from control_plane.core.state import Job, ManifestRef, PoolFailure
from jobspec.instances import GPU_INSTANCES
from jobspec.manifest import Manifest

START = datetime(2026, 11, 1, tzinfo=UTC)
ZONES, ATTEMPTS, CALLS = 5, 20, 200


def place_ms() -> tuple[int, float]:
    """(pools, milliseconds): the median of many calls, the reading of the history included."""
    subnets = {f"us-east-1{letter}": f"subnet-{letter}" for letter in "abcdefgh"[:ZONES]}
    prices = {(one.name, zone): one.spot_usd_per_h for one in GPU_INSTANCES.values() for zone in subnets}
    offers = Offers(subnets, "lt-1", "1", "AROAEXAMPLE", prices)
    job = _job(offers)
    now = START + timedelta(hours=ATTEMPTS + 1)
    took = []
    for _ in range(CALLS):
        started = time.perf_counter()
        place(job, offers, history_of(job, now), now)
        took.append(time.perf_counter() - started)
    return len(pools_of(job, offers)), sorted(took)[CALLS // 2] * 1000


def _job(offers: Offers) -> Job:
    """Interrupted in one pool after the other, once an hour; and every pool has refused lately."""
    document = {
        "name": "timing",
        "model": {"s3": "models/m/"},
        "data": {"train": "data/train.jsonl"},
        "compute": {"instance_types": list(GPU_INSTANCES), "market": "cheapest"},
        "limits": {"deadline": (START + timedelta(days=4)).isoformat(), "max_runtime": "60h"},
    }
    job = accepted(Manifest.model_validate(document), ManifestRef(bucket="data", key="jobs/timing.yaml", version_id="1"), START)
    pools = pools_of(job, offers)
    attempts = []
    for number in range(ATTEMPTS):
        at, pool = START + timedelta(hours=number), pools[number % len(pools)]
        plan = LaunchPlan(
            attempt=number + 1,
            try_number=1,
            market=Market.SPOT,
            pools=pools,
            template_id="lt-1",
            template_version="1",
            role_id="AROAEXAMPLE",
            client_token=f"df-{number}",
            deadline_at=at,
            planned_at=at,
        )
        attempts.append(
            Attempt(
                plan=plan,
                instance_id=f"i-{number:017x}",
                instance_type=pool.instance_type,
                zone=pool.zone,
                usd_per_h=0.5,
                on_demand_usd_per_h=1.0,
                launched_at=at,
                warned_at=at + timedelta(minutes=50),
                gone_at=at + timedelta(minutes=52),
                end=AttemptEnd.INTERRUPTED,
            )
        )
    refused = tuple(PoolFailure(instance_type=p.instance_type, zone=p.zone, market=Market.SPOT, at=START + timedelta(hours=ATTEMPTS)) for p in pools)
    return job.model_copy(update={"attempts": tuple(attempts), "pool_failures": refused})


if __name__ == "__main__":
    print("place: {} pools, {:.2f} ms".format(*place_ms()))
