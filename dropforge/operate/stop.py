"""The emergency stop: launches held, then every instance of the project ended, until two looks in a row find none.

A launch that was under way when the hold came may still bring an instance; so it looks again.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from botocore.exceptions import ClientError

from dropforge.operate import instances
from dropforge.operate.instances import Instance
from dropforge.stack import Deployment

#: A CreateFleet call that was under way has long shown its instance by then.
QUIET_S = 10.0
GIVE_UP_AFTER_S = 180.0
LOOK_EVERY_S = 2.0


@dataclass(slots=True)
class Ended:
    """What became of it. ``asked``: instance id to the state that EC2 answered. ``left``: those still live at the end. ``unread``: regions that
    did not answer at the last look, and why."""

    asked: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    unread: dict[str, str] = field(default_factory=dict)


def end_all(stack: Deployment, told: Callable[[str], None], *, quiet_s: float = QUIET_S, give_up_after_s: float = GIVE_UP_AFTER_S) -> Ended:
    """Ask EC2 to end every live instance of every region, again and again, until none has been seen for ``quiet_s``. One refusal hinders no other."""
    ended, started, last_seen = Ended(), time.monotonic(), time.monotonic()
    while True:
        seen = instances.look(stack)
        for instance in seen.live:
            _end(stack, instance, ended, told)
        now = time.monotonic()
        if seen.live or seen.unread:
            last_seen = now
        if now - last_seen >= quiet_s or now - started >= give_up_after_s:
            ended.left, ended.unread = [instance.instance_id for instance in seen.live], seen.unread
            return ended
        time.sleep(min(LOOK_EVERY_S, quiet_s))


def _end(stack: Deployment, instance: Instance, ended: Ended, told: Callable[[str], None]) -> None:
    """One id a call: a single bad id fails a whole batch, and then none is ended (EC2 API reference, TerminateInstances)."""
    try:
        answer = stack.client("ec2", instance.region).terminate_instances(InstanceIds=[instance.instance_id])["TerminatingInstances"][0]
    except ClientError as error:
        why = f"{error.response['Error']['Code']}: {error.response['Error'].get('Message', '')[:200]}"
        if ended.refused.get(instance.instance_id) != why:
            told(f"{instance.instance_id}: EC2 refused to end it: {why}")
        ended.refused[instance.instance_id] = why
        return
    ended.refused.pop(instance.instance_id, None)
    state = str(answer["CurrentState"]["Name"])
    if ended.asked.get(instance.instance_id) != state:
        told(f"{instance.instance_id}: {state}")
    ended.asked[instance.instance_id] = state
