"""``dropforge local``: the laptop cloud from the command line. Parsing and printing only; the work is in ``cloud`` and ``market``."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Column, Table

from dropforge.local import cloud as clouds
from dropforge.local import deploy
from dropforge.local.market import InstanceView, Market
from dropforge.local.printed import entries, lines_of
from dropforge.local.state import CloudState, LocalCloudError, home, load, runs
from dropforge.options import json_option
from dropforge.output import print_json
from jobspec import tags
from jobspec.regions import REGION_PATTERN

_SHOWN = ("instance_id", "instance_type", "zone", "market", "state", "reason")


def _say(as_json: bool, text: str) -> None:
    """As ``output.say``, in colours."""
    Console(highlight=False, soft_wrap=True, stderr=as_json).print(text)


def _regions(_: click.Context, __: click.Parameter, named: tuple[str, ...]) -> tuple[str, ...]:
    for name in named:
        if not re.fullmatch(REGION_PATTERN, name) or name == clouds.REGION:
            raise click.BadParameter(f"{name!r}: name an AWS region such as us-west-2, other than {clouds.REGION}, which is the home region here.")
    return named


@click.group()
def local() -> None:
    """A cloud on this machine: the same template and handlers, no account, nothing billed."""


@local.command()
@click.option("--template", type=click.Path(path_type=Path, dir_okay=False), default=clouds.REPOSITORY / "template.yaml", help="Template to deploy.")
@click.option("--stack", help=f"Name of the stack and of the project. Default: the one that runs, or {clouds.DEFAULT_STACK}.")
@click.option("--parameter", "parameters", multiple=True, metavar="NAME=VALUE", help="Template parameter; may be repeated.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port on 127.0.0.1. Default: 4566, or a free one.")
@click.option("--notice-s", type=click.FloatRange(min=0.1), default=120.0, show_default=True, help="Seconds from a spot warning to the end.")
@click.option("--minute-s", type=click.FloatRange(min=1), default=60.0, show_default=True, help="Seconds that one minute of a schedule lasts.")
@click.option("--peer", "peers", multiple=True, metavar="REGION", callback=_regions, help="Another region for jobs, such as us-west-2; may be repeated.")
@json_option
def up(
    template: Path, stack: str | None, parameters: tuple[str, ...], port: int | None, notice_s: float, minute_s: float, peers: tuple[str, ...], as_json: bool
) -> None:
    """Start it and deploy the stack; if it runs already, deploy again."""
    was_running = (before := load(home())) is not None and runs(before)
    stack = stack or (before.stack if before is not None and was_running else clouds.DEFAULT_STACK)
    plan = clouds.Plan(home(), template.absolute(), dict(map(_assignment, parameters)), stack, port, notice_s, minute_s, peers=peers)
    state = clouds.up(plan)
    note = clouds.lambda_python_note()
    if note:
        _say(as_json, f"[yellow]{note}[/yellow]")
    if was_running:
        _say(as_json, "The local cloud was up already: the stack was deployed again. Port, notice and schedules stay as they were.")
    _say(as_json, f"[green]The local cloud is up[/green] at {state.endpoint}, stack {state.stack}, state in {plan.home}")
    if state.peers:
        _say(as_json, f"Home region {state.region}; a manifest may also name, in compute.regions: {', '.join(state.peers)}")
    if as_json:
        print_json(as_json, _facts(state) | {"outputs": state.outputs, "environment": state.environment})
    else:
        _print_usage(state)


@local.command()
@click.option("--keep", is_flag=True, help="Leave the local cloud up afterwards.")
def demo(keep: bool) -> None:
    """One job, the whole way: manifest to model, through one spot interruption."""
    from dropforge.local import demo as demonstration

    if not demonstration.run(Console(), keep=keep):
        raise click.ClickException("The demonstration did not end as it should; what happened is above.")


@local.command()
def env() -> None:
    """Print the variables that the stock AWS tools need: eval "$(dropforge local env)"."""
    for name, value in clouds.running_cloud(home()).environment.items():
        click.echo(f"export {name}={value}")


@local.command()
@json_option
def down(as_json: bool) -> None:
    """End it, with every instance and function; the state folder with logs and e-mails stays."""
    was_up = clouds.down(home())
    _say(as_json, "The local cloud is down; no process of it is left." if was_up else "No local cloud was up; nothing is left of one.")
    print_json(as_json, {"was_up": was_up})


@local.command()
@json_option
def status(as_json: bool) -> None:
    """Show the endpoint and every instance."""
    state = clouds.running_cloud(home())
    if as_json:
        machines = [{name: getattr(machine, name) for name in _SHOWN} | {"job_id": job} for machine, job in with_jobs(state)]
        print_json(as_json, _facts(state) | {"instances": machines})
        return
    _say(as_json, f"{state.endpoint}, stack {state.stack}, pid {state.pid}, state in {home()}")
    table = Table(Column("instance", no_wrap=True), "job", "type", "zone", "market", "state", "notice")
    for machine, job in with_jobs(state):
        notice = f"ends {machine.notice_at:%H:%M:%S} UTC" if machine.notice_at else (machine.reason or "")
        table.add_row(machine.instance_id, job or "", machine.instance_type, machine.zone, machine.market, machine.state, notice)
    Console().print(table)


def _facts(state: CloudState) -> dict[str, Any]:
    return {"endpoint": state.endpoint, "stack": state.stack, "pid": state.pid, "home": str(home())}


@local.command()
@click.argument("target", metavar="JOB_OR_INSTANCE")
@click.option("--notice-s", type=click.FloatRange(min=0.1), help="Seconds from the warning to the end. Default: what `up` was given.")
@click.option("--rebalance", is_flag=True, help="Only recommend a rebalance; nothing ends.")
@click.option("--cancel", is_flag=True, help="Take an interruption back.")
@click.option("--without-notice", is_flag=True, help="The host dies: no warning at all.")
@json_option
def interrupt(target: str, notice_s: float | None, rebalance: bool, cancel: bool, without_notice: bool, as_json: bool) -> None:
    """EC2 takes a spot instance back, as it does: warning, notice, end."""
    if rebalance + cancel + without_notice > 1:
        raise click.UsageError("Give at most one of --rebalance, --cancel and --without-notice.")
    state = clouds.running_cloud(home())
    instance_id, market, ends_at = instance_of(state, target), Market(state), None
    if rebalance:
        market.recommend_rebalance(instance_id)
        said = f"{instance_id}: a rebalance was recommended."
    elif cancel:
        market.cancel_notice(instance_id)
        said = f"{instance_id}: the interruption was taken back."
    elif without_notice:
        market.fail(instance_id)
        said = f"{instance_id}: its host failed."
    else:
        ends_at = market.interrupt(instance_id, notice_s)
        said = f"{instance_id} was warned; EC2 ends it at {ends_at:%H:%M:%S} UTC, in {(ends_at - datetime.now(UTC)).total_seconds():.0f} s."
    _say(as_json, said)
    print_json(as_json, {"instance_id": instance_id, "ends_at": ends_at.isoformat() if ends_at is not None else None})


@local.command()
@click.argument("count", type=click.IntRange(min=0), required=False)
@click.option("--type", "instance_type", default="*", help="Instance type. Default: every type.")
@click.option("--zone", default="*", help="Zone, such as us-east-1a. Default: every zone.")
@click.option("--region", help="Every zone of this region, such as us-west-2.")
@click.option("--unlimited", is_flag=True, help="Lift the limit.")
@click.option("--quota", type=click.IntRange(min=0), help="Set the account's spot quota to so many vCPUs instead, in one region or in each.")
@json_option
def capacity(count: int | None, instance_type: str, zone: str, region: str | None, unlimited: bool, quota: int | None, as_json: bool) -> None:
    """Limit the spot instances that each matching pool holds to COUNT (0: insufficient capacity)."""
    if region is not None and zone != "*":
        raise click.UsageError("Give --zone or --region, not both.")
    state = clouds.running_cloud(home())
    if region not in (None, state.region, *state.peers):
        raise click.UsageError(f"--region {region!r}: this cloud has {', '.join((state.region, *state.peers))}. Another: `dropforge local up --peer {region}`.")
    market, where = Market(state), region or zone
    if quota is not None:
        market.set_quota(quota, region=region or "*")
        _say(as_json, f"The spot quota{f' in {region}' if region else ''} is {quota} vCPUs.")
        print_json(as_json, {"region": region or "*", "quota_vcpus": quota})
        return
    if (count is None) != unlimited:
        raise click.UsageError("Give a COUNT, or --unlimited.")
    market.set_capacity(count, instance_type=instance_type, zone=where)
    _say(as_json, f"Spot capacity of {instance_type} in {where}: {'unlimited' if count is None else count}.")
    print_json(as_json, {"instance_type": instance_type, "where": where, "instances": count})


@local.command()
@click.argument("name", required=False, metavar="[FUNCTION|INSTANCE|emulator]")
@click.option("--follow", "-f", is_flag=True, help="Go on until interrupted.")
@json_option
def logs(name: str | None, follow: bool, as_json: bool) -> None:
    """Print what functions logged, an instance's console, or the emulator's own log. With --json one object a line."""
    folder = home()
    if name is not None and (name.startswith("i-") or name == "emulator"):
        for line in lines_of(folder / ("emulator.log" if name == "emulator" else f"instances/{name}/console.log"), follow=follow):
            click.echo(json.dumps({"text": line}) if as_json else line)
        return
    for entry in entries(folder, name, follow=follow):
        if as_json:
            click.echo(json.dumps(entry))
            continue
        mark = "[red]failed[/red] " if entry["error"] else ""
        _say(as_json, f"[cyan]{datetime.fromtimestamp(entry['at'], UTC):%H:%M:%S} {entry['function']}[/cyan] {mark}{entry['duration_ms']} ms")
        for line in entry["lines"]:
            click.echo(f"  {line}")


def with_jobs(state: CloudState) -> Iterator[tuple[InstanceView, str | None]]:
    """Every instance of every region with the job that its tags name."""
    reservations = [r for region in (state.region, *state.peers) for r in deploy.client_of(state, "ec2", region).describe_instances()["Reservations"]]
    found = {i["InstanceId"]: {tag["Key"]: tag["Value"] for tag in i.get("Tags", [])} for r in reservations for i in r["Instances"]}
    for machine in Market(state).instances():
        yield machine, found.get(machine.instance_id, {}).get(tags.JOB)


def instance_of(state: CloudState, target: str) -> str:
    """The instance named, or the job's newest live one; a job may be named by its id or by the name its id begins with."""
    if target.startswith("i-"):
        return target
    live = [machine.instance_id for machine, job in with_jobs(state) if machine.live and job is not None and (job == target or job.startswith(f"{target}-"))]
    if not live:
        raise LocalCloudError(f"No live instance works on a job {target!r}. `dropforge local status` lists them.")
    return live[-1]


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.UsageError(f"--parameter {text!r}: write NAME=VALUE.")
    return name, value


def _print_usage(state: CloudState) -> None:
    for name, value in state.outputs.items():
        _say(False, f"  {name}: {value}")
    bucket = state.outputs.get("DataBucketName")
    _say(False, "\nIn another terminal, the stock AWS command line talks to it:")
    for name, value in state.environment.items():
        click.echo(f"  export {name}={value}")
    if bucket:
        click.echo(f"  aws s3 cp job.yaml s3://{bucket}/jobs/")
    _say(False, "End it with `dropforge local down`.")
