"""A spot interruption on purpose: by the local cloud's market, or by AWS Fault Injection Service in an account.

FIS, action ``aws:ec2:send-spot-instance-interruptions`` (FIS user guide): the instance gets the same warning, notice and end as
when EC2 needs the capacity. It needs a role that FIS takes on; its ARN is the person's to give.
"""

import time
from typing import Any

import click

from dropforge.jobs.here import local_home
from dropforge.local.market import Market
from dropforge.local.state import load
from dropforge.stack import Deployment
from jobspec.regions import region_of
from jobspec.status import AttemptStatus, Status

NOTICE_MINUTES = 2
_ACTION = "aws:ec2:send-spot-instance-interruptions"
_LOOK_EVERY_S = 1.0
_STARTED_WITHIN_S = 60.0


def live_spot_attempt(status: Status) -> AttemptStatus:
    """The attempt to interrupt. Raises ClickException where there is none."""
    live = [attempt for attempt in status.attempts if attempt.ended_at is None and attempt.end is None and attempt.instance_id is not None]
    if not live:
        raise click.ClickException(f"{status.name} has no live instance: it is {status.state} ({status.reason}).")
    if live[-1].market != "spot":
        raise click.ClickException(f"{live[-1].instance_id} is an on-demand instance: EC2 does not take those back.")
    return live[-1]


def by_the_local_market(instance_id: str) -> bool:
    """Interrupts it in the local cloud; False where the settings name no local cloud."""
    home = local_home()
    if home is None:
        return False
    state = load(home)
    assert state is not None, "local_home has read it"
    Market(state).interrupt(instance_id)
    return True


def by_fault_injection(stack: Deployment, role_arn: str, attempt: AttemptStatus) -> str:
    """Runs one experiment in the attempt's region and removes its template. Returns the experiment's id. Raises ClickException where it does not start."""
    region = region_of(attempt.zone or "") or stack.region
    fis = stack.client("fis", region)
    arn = f"arn:{stack.partition}:ec2:{region}:{stack.account_id}:instance/{attempt.instance_id}"
    template = fis.create_experiment_template(**_template(arn, role_arn))["experimentTemplate"]["id"]
    try:
        experiment = fis.start_experiment(experimentTemplateId=template)["experiment"]["id"]
        _until_it_runs(fis, experiment, region)
    finally:
        fis.delete_experiment_template(id=template)
    return str(experiment)


def _template(instance_arn: str, role_arn: str) -> dict[str, Any]:
    return {
        "description": "dropforge interrupt",
        "roleArn": role_arn,
        "stopConditions": [{"source": "none"}],
        "targets": {"one": {"resourceType": "aws:ec2:spot-instance", "resourceArns": [instance_arn], "selectionMode": "ALL"}},
        "actions": {
            "interrupt": {"actionId": _ACTION, "parameters": {"durationBeforeInterruption": f"PT{NOTICE_MINUTES}M"}, "targets": {"SpotInstances": "one"}}
        },
    }


def _until_it_runs(fis: Any, experiment: str, region: str) -> None:
    until = time.monotonic() + _STARTED_WITHIN_S
    while time.monotonic() < until:
        state = fis.get_experiment(id=experiment)["experiment"]["state"]
        if state["status"] in ("running", "completed"):
            return
        if state["status"] in ("failed", "stopped", "cancelled"):
            raise click.ClickException(f"FIS did not interrupt it: {state.get('reason', state['status'])}")
        time.sleep(_LOOK_EVERY_S)
    raise click.ClickException(
        f"FIS has not started experiment {experiment} within {_STARTED_WITHIN_S:.0f} s: aws fis get-experiment --region {region} --id {experiment}"
    )
