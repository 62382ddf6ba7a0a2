"""``dropforge doctor``, ``pause``, ``resume``, ``stop-all``, ``redrive``: parsing and printing only; the work is in the modules beside."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from dropforge.options import json_option, stack_option
from dropforge.output import print_json, say

if TYPE_CHECKING:
    from dropforge.operate.redrive import Outcome
    from dropforge.stack import Deployment
    from jobspec.operator import OperatorRequest

COLOURS = {"ok": "green", "warning": "yellow", "broken": "red", "unknown": "cyan"}
FROZEN_HINT = "docs/operations.md, Emergency stop, says how to do the same with the AWS command line alone."


class Span(click.ParamType[timedelta]):
    """A duration as a person writes it, such as 90m or 2d."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        from jobspec.units import seconds_from

        if isinstance(value, timedelta):
            return value
        try:
            return timedelta(seconds=seconds_from(value))
        except ValueError as error:
            self.fail(f"{value!r}: write {error}.", param, ctx)


@click.command()
@stack_option
@json_option
def doctor(stack_name: str, as_json: bool) -> None:
    """Check a deployed stack: what is broken, and the command that mends it. Exit 1 if anything is."""
    from dropforge.operate.doctor import examine, is_well
    from dropforge.operate.findings import broken
    from dropforge.stack import find_deployment

    findings = []
    try:
        stack = find_deployment(stack_name)
    except click.ClickException as error:
        findings.append(broken("stack", error.message, f"sam build && sam deploy --guided --stack-name {stack_name}"))
        _print_finding(findings[0], as_json)
    else:
        for finding in examine(stack):
            findings.append(finding)
            _print_finding(finding, as_json)
    if as_json:
        click.echo(json.dumps({"stack": stack_name, "well": is_well(findings), "findings": [finding.as_json() for finding in findings]}, indent=1))
    else:
        counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in COLOURS}
        click.echo(", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count))
    if not is_well(findings):
        raise click.exceptions.Exit(1)


def _print_finding(finding: Any, as_json: bool) -> None:
    if as_json:
        return
    click.echo(f"{click.style(f'{finding.verdict:<8}', fg=COLOURS[finding.verdict])} {finding.check:<13} {finding.means}")
    if finding.mend:
        click.echo(f"{'':<22} mend: {finding.mend}")


@click.command()
@stack_option
@json_option
@click.option("--reason", default="a person paused it", show_default=True, help="One line; the status of each waiting job shows it.")
@click.option("--for", "lasting", type=Span(), help="End the pause by itself after so long (90m, 2d). Default: until `dropforge resume`.")
@click.option("--dry-run", is_flag=True, help="Print the request, and send nothing.")
def pause(stack_name: str, as_json: bool, reason: str, lasting: timedelta | None, dry_run: bool) -> None:
    """Hold new launches. Running instances go on; a job that loses its instance waits."""
    from dropforge.operate import hold
    from dropforge.stack import find_deployment

    stack = find_deployment(stack_name)
    request = _request(lambda: hold.request_of(stack, "pause", reason, lasting))
    if _sent(stack, request, dry_run=dry_run, as_json=as_json):
        say(as_json, f"New launches are held. Running instances go on; `dropforge resume --stack {stack.name}` lifts the hold.")


@click.command()
@stack_option
@json_option
@click.option("--dry-run", is_flag=True, help="Print the request, and send nothing.")
def resume(stack_name: str, as_json: bool, dry_run: bool) -> None:
    """Lift the hold on new launches, whoever set it: a person, or a spent budget."""
    from dropforge.operate import hold
    from dropforge.stack import find_deployment

    stack = find_deployment(stack_name)
    held = hold.stored_hold(stack)
    if held is None or not held.holds_at(datetime.now(UTC)):
        say(as_json, "New launches are not held.")
        print_json(as_json, {"sent": False, "confirmed": True})
        return
    say(as_json, f"Held since {held.since:%Y-%m-%d %H:%M} UTC: {held.reason}")
    request = _request(lambda: hold.request_of(stack, "resume", "a person resumed it"))
    if _sent(stack, request, dry_run=dry_run, as_json=as_json):
        say(as_json, "New launches are allowed again; jobs that waited start within minutes.")


def _request(make: "Callable[[], OperatorRequest]") -> "OperatorRequest":
    try:
        return make()
    except ValueError:
        raise click.ClickException("--reason must be one line of 1 to 200 printable ASCII characters.") from None


def _sent(stack: "Deployment", request: "OperatorRequest", *, dry_run: bool, as_json: bool) -> bool:
    """Put the request and wait until the record shows it. Exit 1 where it does not."""
    from dropforge.operate import hold

    if dry_run:
        say(as_json, f"Would put on the default bus, source dropforge.operator: {request.model_dump_json()}")
        print_json(as_json, {"sent": False, "request": request.model_dump(mode="json")})
        return False
    hold.put(stack, request)
    done = hold.confirmed(stack, request, hold.CONFIRMED_WITHIN_S)
    print_json(as_json, {"sent": True, "confirmed": done, "request": request.model_dump(mode="json")})
    if not done:
        raise click.ClickException(
            f"The request was put on the bus, but after {hold.CONFIRMED_WITHIN_S:.0f} s the record does not show it. "
            f"`dropforge doctor --stack {stack.name}` says why. {FROZEN_HINT}"
        )
    return True


@click.command("stop-all")
@stack_option
@json_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--dry-run", is_flag=True, help="Say what would be paused and ended, and do nothing.")
def stop_all(stack_name: str, as_json: bool, yes: bool, dry_run: bool) -> None:
    """Hold new launches, then end every instance of the project. Jobs wait, and go on from their last checkpoint after `resume`."""
    from dropforge.operate import hold, instances, stop
    from dropforge.stack import find_deployment

    stack = find_deployment(stack_name)
    seen = instances.look(stack)
    live = seen.live
    say(as_json, f"{len(live)} live instance(s) of {stack.name} in {', '.join(stack.regions)}, account {stack.account_id}:")
    for instance in live:
        say(as_json, f"  {instance.told()}")
    for region, why in seen.unread.items():
        say(as_json, f"  {region} does not answer: {why}")
    if dry_run:
        say(as_json, "Would hold new launches, then end all of these and whatever comes up meanwhile. Nothing was done.")
        print_json(as_json, {"held": False, "would_end": [instance.instance_id for instance in live]})
        return
    if not yes:
        click.confirm("Hold new launches and end them all? Work since their last checkpoint is lost.", abort=True, err=as_json)
    held, why = True, ""
    try:
        request = hold.request_of(stack, "pause", "dropforge stop-all")
        hold.put(stack, request)
        held = hold.confirmed(stack, request, hold.CONFIRMED_WITHIN_S)
    except Exception as error:  # whatever it is: an instance that is not ended costs money, a hold that is not set is said below
        held, why = False, f" ({str(error)[:200]})"
    say(as_json, "New launches are held." if held else f"THE HOLD IS NOT ON RECORD{why}. Ending the instances all the same.")
    ended = stop.end_all(stack, lambda line: say(as_json, f"  {line}"))
    print_json(as_json, {"held": held, "asked": ended.asked, "refused": ended.refused, "left": ended.left, "unread": ended.unread})
    troubles = [f"{len(ended.left)} instance(s) are still live: {', '.join(ended.left)}."] if ended.left else []
    troubles += [f"{region} does not answer, so instances there may live: {why}" for region, why in ended.unread.items()]
    if not held:
        troubles.append("The hold is not on record: the control plane may launch again.")
    if troubles:
        raise click.ClickException(f"{' '.join(troubles)} {FROZEN_HINT}")
    say(as_json, f"{len(ended.asked)} instance(s) were asked to end, and none is live. `dropforge resume --stack {stack.name}` lets jobs go on.")


@click.command()
@stack_option
@json_option
@click.option("--dry-run", is_flag=True, help="Show each letter and whose it is; send and delete nothing.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=500, show_default=True, help="At most so many letters.")
def redrive(stack_name: str, as_json: bool, dry_run: bool, limit: int) -> None:
    """Send dead letters again to the functions that could not handle them. Exit 1 if one stays."""
    from dropforge.operate.redrive import redrive as send_again
    from dropforge.stack import find_deployment

    outcomes: list[Outcome] = []
    for outcome in send_again(find_deployment(stack_name), dry_run=dry_run, limit=limit):
        outcomes.append(outcome)
        if not as_json:
            _print_outcome(outcome)
    stay = sum(outcome.did == "stays" for outcome in outcomes)
    if as_json:
        click.echo(json.dumps([outcome.as_json() for outcome in outcomes], indent=1))
    elif not outcomes:
        click.echo("The dead-letter queue shows no letter.")
    else:
        click.echo(f"{len(outcomes)} letter(s): {len(outcomes) - stay} {'would be ' if dry_run else ''}sent again, {stay} stay.")
    if stay:
        raise click.exceptions.Exit(1)


def _print_outcome(outcome: "Outcome") -> None:
    click.echo(f"{outcome.did:<10} {outcome.age:>6}  {outcome.kind:<19} {outcome.function or '-'}: {outcome.what or outcome.message_id}")
    for line in filter(None, (outcome.why, outcome.stays)):
        click.echo(f"{'':<19} {line}")
