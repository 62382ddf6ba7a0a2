"""What EC2 tells EventBridge, in the shapes of AWS's documentation and of captured events (dropforge/local/README.md), and buses that
are a target from another region (EventBridge guide, "Sending and receiving events between AWS Regions"), which the emulator drops."""

import json
from typing import Any

from dropforge.local.plugin import seams


def install() -> None:
    seams.wrap("services.eventbridge", "_dispatch_to_event_bus", _to_its_region)


def _to_its_region(original: Any) -> Any:
    """The event arrives as it is, with the region that it is from."""

    def dispatch(bus: Any, event: dict[str, Any], *rest: Any) -> None:
        if bus.region == seams.responses.get_region() or bus.account_id != seams.responses.get_account_id():
            original(bus, event, *rest)
        else:
            with seams.responses.request_scope(bus.account_id, bus.region):
                seams.eventbridge._dispatch_event(event | {"EventBusName": bus.resource.partition("/")[2]})

    return dispatch


def put_state_change(instance_id: str, state: str) -> None:
    """``EC2 Instance State-change Notification``; it never says why."""
    _put("EC2 Instance State-change Notification", {"instance-id": instance_id, "state": state}, _arn(instance_id))


def put_interruption_warning(instance_id: str, zone: str) -> None:
    """``EC2 Spot Instance Interruption Warning``. Real ones carry the zone and no account in the ARN, so this does too."""
    detail = {"instance-id": instance_id, "instance-action": "terminate"}
    _put("EC2 Spot Instance Interruption Warning", detail, f"arn:aws:ec2:{zone}:instance/{instance_id}")


def put_rebalance_recommendation(instance_id: str, zone: str) -> None:
    """``EC2 Instance Rebalance Recommendation``."""
    _put("EC2 Instance Rebalance Recommendation", {"instance-id": instance_id}, f"arn:aws:ec2:{zone}:instance/{instance_id}")


def _arn(instance_id: str) -> str:
    return f"arn:aws:ec2:{seams.responses.get_region()}:{seams.responses.get_account_id()}:instance/{instance_id}"


def _put(detail_type: str, detail: dict[str, Any], arn: str) -> None:
    entry = {"Source": "aws.ec2", "DetailType": detail_type, "Detail": json.dumps(detail), "Resources": [arn]}
    # Only AWS itself may put an aws.* source: the emulator refuses it from outside, as AWS does.
    seams.eventbridge._put_events({"Entries": [entry]}, allow_aws_source=True)
