"""CreateFleet (``instant``), RunInstances and TerminateInstances, with EC2's semantics (dropforge/local/README.md states them).

CreateFleet answers HTTP 200 even if it launched nothing: what failed is in ``Errors``, one entry a pool, and ``Errors``
may stand beside an instance. RunInstances raises instead. A launch takes the market's pools in order of price.
"""

import base64
import itertools
import uuid
from typing import Any

from dropforge.local.plugin import seams
from dropforge.local.plugin.asked import Candidate, RequestRefused, error, fleet_candidates, names_zone, run_candidate, together
from dropforge.local.plugin.machines import USER_SHUTDOWN, Launch, Machines
from dropforge.local.plugin.market import Pool, Refusal, SpotMarket
from dropforge.local.plugin.query import nest, render, tags_of
from dropforge.local.plugin.tokens import ClientTokens, Response, TokenRefused

_METADATA_DEFAULTS = {"HttpTokens": "optional", "HttpPutResponseHopLimit": "1", "HttpEndpoint": "enabled", "InstanceMetadataTags": "disabled"}


class Launching:
    """The launch and terminate actions of one cloud."""

    def __init__(self, machines: Machines, market: SpotMarket) -> None:
        self._machines, self._market = machines, market
        self._tokens = ClientTokens(self._has_ended)
        self._numbers = itertools.count()

    def create_fleet(self, params: dict[str, Any]) -> Response:
        request = nest(params)
        if request.get("Type") != "instant":
            return error("InvalidParameterValue", "The local cloud models fleets of type instant only.")
        return self._answer("CreateFleet", seams.responses.get_region(), request, self._fleet)

    def run_instances(self, params: dict[str, Any]) -> Response:
        request = nest(params)
        try:
            candidate = run_candidate(request)
        except RequestRefused as refused:
            return refused.response
        scope = candidate.pool.zone if names_zone(request) else seams.responses.get_region()
        return self._answer("RunInstances", scope, request, lambda asked: self._run(asked, candidate))

    def terminate_instances(self, params: dict[str, Any]) -> Response:
        """All or none: one unknown id fails the whole batch (API reference). Ending an ended instance is no error."""
        request = nest(params)
        ids = [str(instance_id) for instance_id in request.get("InstanceId", [])]
        here = {machine.instance_id: machine for machine in self._machines.here()}
        found = {instance_id: here[instance_id] for instance_id in ids if instance_id in here}
        unknown = [instance_id for instance_id in ids if instance_id not in found]
        if unknown:
            noun = "IDs" if len(unknown) > 1 else "ID"
            return error("InvalidInstanceID.NotFound", f"The instance {noun} '{', '.join(unknown)}' do{'' if len(unknown) > 1 else 'es'} not exist")
        if request.get("DryRun") == "true":
            return _would_have_succeeded()
        changes = []
        for instance_id, machine in found.items():
            before = dict(machine.record["State"])
            self._machines.end(machine, USER_SHUTDOWN)
            changes.append({"instanceId": instance_id, "currentState": _state(machine.record["State"]), "previousState": _state(before)})
        return _xml("TerminateInstances", {"instancesSet": changes})

    def _answer(self, action: str, scope: str, request: dict[str, Any], act: Any) -> Response:
        try:
            remembered = self._tokens.recall(action, scope, request)
            if remembered is not None:
                return remembered
            if request.get("DryRun") == "true":
                return _would_have_succeeded()
            response, instance_ids = act(request)
        except TokenRefused as refused:
            return error(refused.code, str(refused))
        except RequestRefused as refused:
            return refused.response
        self._tokens.remember(action, scope, request, response, instance_ids)
        done: Response = response
        return done

    def _fleet(self, request: dict[str, Any]) -> tuple[Response, list[str]]:
        target = request.get("TargetCapacitySpecification", {})
        market = str(target.get("DefaultTargetCapacityType") or "on-demand")
        fleet_id = f"fleet-{uuid.uuid4()}"
        tags = tags_of(request.get("TagSpecification", []), "instance")
        candidates = self._in_order(fleet_candidates(request), market)
        launched: list[dict[str, Any]] = []
        errors: list[dict[str, Any]] = []
        ids: list[str] = []
        wanted = int(target.get("TotalTargetCapacity") or 1)
        at_once = together(request, market, wanted)
        while len(ids) < wanted:
            for candidate in list(candidates):
                refusal = self._refusal(candidate, market, at_once)
                if refusal is not None:
                    candidates.remove(candidate)  # one attempt a pool
                    errors.append(_described(candidate, market) | {"errorCode": refusal.code, "errorMessage": refusal.message})
                    continue
                started = [self._launch(candidate, market, tags, f"{fleet_id}-{len(ids) + n}") for n in range(at_once)]
                ids += started
                launched.append(_described(candidate, market) | {"instanceIds": started, "instanceType": candidate.pool.instance_type})
                break
            else:
                break
        return _xml("CreateFleet", {"fleetId": fleet_id, "errorSet": errors, "fleetInstanceSet": launched}), ids

    def _run(self, request: dict[str, Any], candidate: Candidate) -> tuple[Response, list[str]]:
        options = request.get("InstanceMarketOptions") or candidate.template.get("InstanceMarketOptions") or {}
        market = "spot" if options.get("MarketType") == "spot" else "on-demand"
        tags = tags_of(request.get("TagSpecification", []), "instance")
        count = int(request.get("MaxCount") or 1)
        refusal = self._refusal(candidate, market)
        if refusal is not None:
            raise RequestRefused(error(refusal.code, refusal.message, 500 if "Capacity" in refusal.code else 400))
        ids = [self._launch(candidate, market, tags, str(request.get("ClientToken") or uuid.uuid4())) for _ in range(count)]
        items = "".join(seams.ec2._instance_xml(seams.ec2._instances[instance_id]) for instance_id in ids)
        reservation = {"reservationId": f"r-{uuid.uuid4().hex[:17]}", "ownerId": seams.responses.get_account_id()}
        return seams.ec2._xml(200, "RunInstancesResponse", f"<instancesSet>{items}</instancesSet>{render(reservation)}"), ids

    def _in_order(self, candidates: list[Candidate], market: str) -> list[Candidate]:
        if market == "spot":
            return sorted(candidates, key=lambda c: self._market.price(c.pool) if c.pool.instance_type in self._market.types else 0.0)
        return sorted(candidates, key=lambda c: float(c.override.get("Priority") or 0))

    def _refusal(self, candidate: Candidate, market: str, instances: int = 1) -> Refusal | None:
        """Why the pool would not give so many instances at once, or None."""
        live: dict[Pool, int] = {}
        vcpus = 0
        for machine in self._machines.here():
            if machine.live and machine.launch.market == market:
                live[machine.launch.pool] = live.get(machine.launch.pool, 0) + 1
                vcpus += self._market.types[machine.launch.pool.instance_type].vcpus
        # The market is asked about the last of them.
        live[candidate.pool] = live.get(candidate.pool, 0) + instances - 1
        if candidate.pool.instance_type in self._market.types:
            vcpus += (instances - 1) * self._market.types[candidate.pool.instance_type].vcpus
        return self._market.refusal(candidate.pool, market, live=live, vcpus_live=vcpus, max_price=candidate.max_price)

    def _launch(self, candidate: Candidate, market: str, tags: dict[str, str], client_token: str) -> str:
        template = candidate.template
        launch = _launch_of(candidate, market, client_token)
        (record,) = seams.ec2._launch_instances_internal(
            image_id=launch.image_id,
            instance_type=candidate.pool.instance_type,
            subnet_id=candidate.subnet_id,
            count=1,
            user_data="",
            sg_ids=template.get("SecurityGroupIds"),
            iam_profile=_profile(template),
        )
        # Its processes share this machine: on an address of its own they find each other as on a subnet.
        number = next(self._numbers)
        record["PrivateIpAddress"] = f"127.77.{number // 250}.{number % 250 + 1}"
        record["Placement"] = {"AvailabilityZone": candidate.pool.zone, "Tenancy": "default"}
        template_tags = tags_of(template.get("TagSpecifications", []), "instance")
        seams.ec2._tags[record["InstanceId"]] = [{"Key": key, "Value": value} for key, value in (template_tags | tags).items()]
        instance_id = str(record["InstanceId"])
        self._machines.start(instance_id, launch, record)
        return instance_id

    def _has_ended(self, instance_id: str) -> bool:
        machine = self._machines.find(instance_id)
        return machine is None or machine.state in {"shutting-down", "terminated"}


def _launch_of(candidate: Candidate, market: str, client_token: str) -> Launch:
    template, profile = candidate.template, _profile(candidate.template)
    record = seams.iam._lookup_instance_profile(arn=profile["Arn"]) if profile else None
    options = _METADATA_DEFAULTS | {key: str(value) for key, value in template.get("MetadataOptions", {}).items()}
    return Launch(
        pool=candidate.pool,
        market=market,
        subnet_id=candidate.subnet_id,
        image_id=str(template.get("ImageId") or "ami-00000000"),
        user_data=base64.b64decode(template.get("UserData") or ""),
        profile_arn=profile["Arn"] if profile else "",
        role=record["Roles"][0] if record and record["Roles"] else None,
        client_token=client_token,
        shutdown_behavior=str(template.get("InstanceInitiatedShutdownBehavior") or "stop"),
        metadata=options,
    )


def _profile(template: dict[str, Any]) -> dict[str, str] | None:
    asked = template.get("IamInstanceProfile") or {}
    if not asked:
        return None
    profile, refused = seams.ec2._resolve_iam_instance_profile(iam_arn=asked.get("Arn", ""), iam_name=asked.get("Name", ""))
    if refused:
        raise RequestRefused(refused)
    resolved: dict[str, str] = profile
    return resolved


def _described(candidate: Candidate, market: str) -> dict[str, Any]:
    specification = {
        "launchTemplateId": candidate.specification.get("LaunchTemplateId"),
        "launchTemplateName": candidate.specification.get("LaunchTemplateName"),
        "version": candidate.specification.get("Version"),
    }
    overrides = {"instanceType": candidate.pool.instance_type, "subnetId": candidate.subnet_id, "availabilityZone": candidate.pool.zone}
    return {"launchTemplateAndOverrides": {"launchTemplateSpecification": specification, "overrides": overrides}, "lifecycle": market}


def _state(state: dict[str, Any]) -> dict[str, Any]:
    return {"code": state["Code"], "name": state["Name"]}


def _would_have_succeeded() -> Response:
    return error("DryRunOperation", "Request would have succeeded, but DryRun flag is set.", 412)


def _xml(action: str, content: dict[str, Any]) -> Response:
    response: Response = seams.ec2._xml(200, f"{action}Response", render(content))
    return response
