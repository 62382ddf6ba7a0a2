"""A typed hand on the spot market of a running local cloud: interrupt, refuse, limit, look."""

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dropforge.local.state import CloudState, LocalCloudError

ANSWER_WITHIN_S = 10


@dataclass(frozen=True, slots=True)
class InstanceView:
    """An instance as EC2 knows it. ``reason`` is its StateReason code; times are aware (UTC)."""

    instance_id: str
    instance_type: str
    zone: str
    market: str
    state: str
    reason: str | None
    launched_at: datetime
    notice_at: datetime | None
    metadata_url: str | None

    @property
    def live(self) -> bool:
        return self.state in ("pending", "running")


class Market:
    """Each method is one order to the cloud; a refusal is a LocalCloudError with the reason.

    ``zone``: one zone, a region's name for all of its zones, or ``*`` for every one.
    """

    def __init__(self, cloud: CloudState) -> None:
        self._cloud = cloud

    def instances(self) -> list[InstanceView]:
        """Those of every region, oldest first, ended ones included for an hour."""
        return [_view(raw) for raw in self._order("instances")["instances"]]

    def interrupt(self, instance_id: str, notice_s: float | None = None) -> datetime:
        """EC2 takes a spot instance back. ``notice_s``: from warning to end, default the cloud's own. Returns the end's time (UTC)."""
        return datetime.fromisoformat(self._order("interrupt", instance_id=instance_id, notice_s=notice_s)["ends_at"])

    def cancel_notice(self, instance_id: str) -> None:
        """Take the interruption back before its time."""
        self._order("cancel", instance_id=instance_id)

    def recommend_rebalance(self, instance_id: str) -> None:
        self._order("rebalance", instance_id=instance_id)

    def fail(self, instance_id: str) -> None:
        """The host dies: no notice, every process gone at once."""
        self._order("fail", instance_id=instance_id)

    def set_capacity(self, count: int | None, *, instance_type: str = "*", zone: str = "*") -> None:
        """How many spot instances a pool can hold (each pool on its own); None: as many as asked for."""
        self._order("capacity", count=count, instance_type=instance_type, zone=zone)

    def set_price(self, usd_per_h: float | None, *, instance_type: str = "*", zone: str = "*") -> None:
        self._order("price", usd_per_h=usd_per_h, instance_type=instance_type, zone=zone)

    def refuse(self, count: int, *, code: str = "InsufficientInstanceCapacity", instance_type: str = "*", zone: str = "*") -> None:
        """Refuse the next ``count`` attempts at a pool with an EC2 error code."""
        self._order("refuse", count=count, code=code, instance_type=instance_type, zone=zone)

    def set_quota(self, vcpus: int | None, *, market: str = "spot", region: str = "*") -> None:
        """The account's vCPU quota of a market (``spot`` or ``on-demand``) in one region or in each; None: none."""
        self._order("quota", vcpus=vcpus, market=market, region=region)

    def _order(self, verb: str, **request: Any) -> dict[str, Any]:
        call = urllib.request.Request(  # noqa: S310 - the endpoint is our own, on loopback
            f"{self._cloud.endpoint}/_dropforge/{verb}",
            data=json.dumps(request).encode(),
            headers={"X-Dropforge-Token": self._cloud.control_token},
            method="POST",
        )
        try:
            with urllib.request.urlopen(call, timeout=ANSWER_WITHIN_S) as answer:  # noqa: S310 - as above
                return dict(json.load(answer))
        except urllib.error.HTTPError as refused:
            raise LocalCloudError(json.load(refused).get("error", "The local cloud refused.")) from None
        except OSError:
            raise LocalCloudError(f"The local cloud does not answer at {self._cloud.endpoint}. Run `dropforge local up`.") from None


def _view(raw: dict[str, Any]) -> InstanceView:
    notice = raw["notice_at"]
    return InstanceView(
        **{
            **raw,
            "launched_at": datetime.fromisoformat(raw["launched_at"]),
            "notice_at": datetime.fromisoformat(notice) if notice else None,
        }
    )
