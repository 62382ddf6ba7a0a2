"""AWS regions: which one a zone is of, where one says what to launch from, and what a GiB costs that leaves one region for another.

AWS bills such transfer to the region that sends; receiving is free. Prices: US dollars a GiB, by the sending region, as compiled for 2026 by
redresscompliance.com ("AWS inter-region data transfer costs") from AWS's own matrix: $0.02 between US and to and from European regions, $0.01
between N. Virginia and Ohio, up to nine cents beyond. What is not listed is taken at ``ELSEWHERE``: an estimate must rather be too high.
"""

from typing import Annotated

from pydantic import StringConstraints

REGION_PATTERN = r"^[a-z]{2}(-[a-z]+)+-[0-9]$"
Region = Annotated[str, StringConstraints(strict=True, pattern=REGION_PATTERN)]

TRANSFER_AS_OF = "2026"
_LISTED = ("us-", "ca-", "eu-")
_NEAR = frozenset({"us-east-1", "us-east-2"})
LISTED, NEAR, ELSEWHERE = 0.02, 0.01, 0.10


def site_parameter(project: str) -> str:
    """The SSM parameter of a peer, in its own region, which region.yaml writes: JSON with ``template_id``, ``template_version``, ``subnet_ids``."""
    return f"/dropforge/{project}/region"


def region_of(zone: str) -> str:
    """``us-east-1`` of ``us-east-1a``; empty for an empty zone."""
    return zone[:-1]


def transfer_usd_per_gib(sender: str, receiver: str) -> float:
    """Zero within a region."""
    if sender == receiver:
        return 0.0
    if {sender, receiver} == _NEAR:
        return NEAR
    return LISTED if sender.startswith(_LISTED) else ELSEWHERE
