"""What a launch request asks for: the pools that it may be started in, one candidate each, and how many instances must start at once."""

from dataclasses import dataclass
from typing import Any

from dropforge.local.plugin import seams
from dropforge.local.plugin.market import Pool
from dropforge.local.plugin.tokens import Response


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to launch: a launch template's data, its specification as asked for, and one override."""

    template: dict[str, Any]
    specification: dict[str, Any]
    override: dict[str, Any]
    pool: Pool
    subnet_id: str

    @property
    def max_price(self) -> float | None:
        price = self.override.get("MaxPrice")
        return None if price is None else float(price)


class RequestRefused(Exception):
    """An EC2 error response, ready to be sent."""

    def __init__(self, response: Response) -> None:
        super().__init__()
        self.response = response


def error(code: str, message: str, status: int = 400) -> Response:
    response: Response = seams.ec2._error(code, message, status)
    return response


def template_of(specification: dict[str, Any]) -> dict[str, Any]:
    """The data of the launch template version that a request names. Raises RequestRefused."""
    data, _, refused = seams.ec2._resolve_launch_template_data(specification)
    if refused:
        raise RequestRefused(refused)
    found: dict[str, Any] = data
    return found


def _candidate(template: dict[str, Any], specification: dict[str, Any], override: dict[str, Any]) -> Candidate:
    subnet_id = str(override.get("SubnetId") or template.get("SubnetId") or seams.ec2._DEFAULT_SUBNET_ID)
    subnet = seams.ec2._subnets.get(subnet_id)
    if subnet is None:
        raise RequestRefused(error("InvalidSubnetID.NotFound", f"The subnet ID '{subnet_id}' does not exist"))
    zone = str(override.get("AvailabilityZone") or subnet["AvailabilityZone"])
    instance_type = str(override.get("InstanceType") or template.get("InstanceType") or "")
    return Candidate(template, specification, override, Pool(instance_type, zone), subnet_id)


def fleet_candidates(request: dict[str, Any]) -> list[Candidate]:
    candidates = []
    for config in request.get("LaunchTemplateConfigs", []):
        specification = config.get("LaunchTemplateSpecification", {})
        template = template_of(specification)
        candidates += [_candidate(template, specification, override) for override in config.get("Overrides", [{}])]
    if not candidates:
        raise RequestRefused(error("MissingParameter", "The request must contain the parameter LaunchTemplateConfigs"))
    return candidates


def run_candidate(request: dict[str, Any]) -> Candidate:
    specification = request.get("LaunchTemplate", {})
    template = template_of(specification) if specification else {}
    for name in ("ImageId", "UserData", "IamInstanceProfile", "MetadataOptions", "InstanceInitiatedShutdownBehavior"):
        if name in request:
            template = template | {name: request[name]}
    price = request.get("InstanceMarketOptions", {}).get("SpotOptions", {}).get("MaxPrice")
    override = {key: request[key] for key in ("InstanceType", "SubnetId") if key in request} | ({"MaxPrice": price} if price else {})
    zone = request.get("Placement", {}).get("AvailabilityZone")
    return _candidate(template, specification, override | ({"AvailabilityZone": zone} if zone else {}))


def names_zone(request: dict[str, Any]) -> bool:
    return "SubnetId" in request or "AvailabilityZone" in request.get("Placement", {})


def together(request: dict[str, Any], market: str, wanted: int) -> int:
    """How many instances are started at once: all that are wanted where they are to stay in one pool, else one after the other.

    CreateFleet's reference: a least number needs one of the two options; the local cloud models both of them, or none. Raises RequestRefused.
    """
    options = request.get("SpotOptions" if market == "spot" else "OnDemandOptions", {})
    singles = [str(options.get(name)).lower() == "true" for name in ("SingleInstanceType", "SingleAvailabilityZone")]
    least = int(options.get("MinTargetCapacity") or 0)
    if least and not any(singles):
        raise RequestRefused(error("InvalidParameterCombination", "MinTargetCapacity needs SingleInstanceType or SingleAvailabilityZone."))
    if any(singles) and (not all(singles) or least != wanted):
        raise RequestRefused(error("InvalidParameterValue", "The local cloud models fleets that start whole, of one type and in one zone, or none of that."))
    return wanted if all(singles) else 1
