"""Jobs, plans and attempts for the contract suite. Ids are the AWS documentation's own examples or made of a number."""

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from control_plane.core.records import Attempt, LaunchPlan, Market, Pool
from control_plane.core.state import Job, JobState, ManifestRef
from jobspec.base import Document
from jobspec.manifest import Manifest

D = TypeVar("D", bound=Document)

NOW = datetime(2026, 11, 3, 12, 0, tzinfo=UTC)
PROJECT = "dropforge"
ROLE_ID = "AROAEXAMPLEROLEID0001"


def now() -> datetime:
    return NOW


def instance_id(number: int) -> str:
    return f"i-{number:017x}"


def pool(instance_type: str = "g5.xlarge", zone: str = "us-east-1a", subnet_id: str = "subnet-0123456789abcdef0") -> Pool:
    return Pool(instance_type=instance_type, zone=zone, subnet_id=subnet_id)


def plan(pools: tuple[Pool, ...] = (), **changes: Any) -> LaunchPlan:
    values: dict[str, Any] = {
        "attempt": 1,
        "try_number": 1,
        "market": Market.SPOT,
        "pools": pools or (pool(),),
        "template_id": "lt-0123456789abcdef0",
        "template_version": "1",
        "role_id": ROLE_ID,
        "client_token": "demo-1-1-spot",
        "deadline_at": NOW + timedelta(hours=4),
        "planned_at": NOW,
    }
    return LaunchPlan(**(values | changes))


def attempt(number: int, of: LaunchPlan | None = None, **changes: Any) -> Attempt:
    return Attempt(
        plan=of or plan(attempt=number),
        instance_id=instance_id(number),
        **changes,
        instance_type="g5.xlarge",
        zone="us-east-1a",
        usd_per_h=0.4,
        on_demand_usd_per_h=1.006,
        launched_at=NOW,
    )


def manifest(name: str) -> Manifest:
    return Manifest.model_validate(
        {
            "version": 1,
            "name": name,
            "model": {"hub": "HuggingFaceTB/SmolLM2-135M-Instruct", "revision": "12fd25f77366fa6b3b4b768ec3050bf629380bac"},
            "data": {"train": "data/train.jsonl"},
            "compute": {"instance_types": ["g5.xlarge"]},
            "limits": {"max_runtime": "1h30m"},
        }
    )


def job(job_id: str = "demo-1", *, name: str = "demo", key: str = "jobs/demo.yaml", state: JobState = JobState.ACCEPTED, **changes: Any) -> Job:
    values: dict[str, Any] = {
        "job_id": job_id,
        "name": name,
        "manifest_ref": ManifestRef(bucket="data-bucket", key=key, version_id="v1"),
        "manifest": manifest(name),
        "state": state,
        "reason": "the manifest is valid",
        "accepted_at": NOW,
        "updated_at": NOW,
    }
    return Job(**(values | changes))


def changed(of: D, **changes: Any) -> D:
    return of.model_copy(update=changes)
