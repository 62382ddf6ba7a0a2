"""Checks on where instances live: zones that offer the types, and a way from each subnet to S3 and the registry."""

from collections.abc import Iterator
from typing import Any

from dropforge.operate.findings import Check, Finding, broken, ok, warning
from dropforge.operate.places import Place, home_of
from jobspec.instances import GPU_INSTANCES


def zones(place: Place) -> Iterator[Finding]:
    """One subnet a zone, each in a zone that offers some of the types."""
    places = [subnet["AvailabilityZone"] for subnet in place.subnets()]
    deploy = "sam deploy --guided"
    if not places:
        yield broken("zones", "The functions know no subnet (SUBNET_IDS): nothing can be launched.", deploy)
        return
    doubled = sorted({zone for zone in places if places.count(zone) > 1})
    if doubled:
        yield broken(
            "zones", f"Two subnets lie in {', '.join(doubled)}: a fleet takes one subnet a zone, and EC2 refuses the launch. Give SubnetIds anew.", deploy
        )
    filters = [{"Name": "location", "Values": sorted(set(places))}, {"Name": "instance-type", "Values": list(GPU_INSTANCES)}]
    pages = place.client("ec2").get_paginator("describe_instance_type_offerings").paginate(LocationType="availability-zone", Filters=filters)
    offered: dict[str, set[str]] = {zone: set() for zone in places}
    for page in pages:
        for item in page["InstanceTypeOfferings"]:
            offered.setdefault(item["Location"], set()).add(item["InstanceType"])
    empty, nowhere = [zone for zone in offered if not offered[zone]], [name for name in GPU_INSTANCES if not any(name in types for types in offered.values())]
    other = "aws ec2 describe-instance-type-offerings --location-type availability-zone --filters Name=instance-type,Values=g5.xlarge,g6.xlarge"
    if len(empty) == len(offered):
        yield broken("zones", f"No zone of this stack ({', '.join(offered)}) offers any of its instance types. Deploy in other zones or another region.", other)
    elif empty:
        yield warning("zones", f"{', '.join(empty)} offers none of the instance types: a subnet there is of no use.", other)
    elif not doubled:
        rest = f"; nowhere here: {', '.join(nowhere)}" if nowhere else ""
        yield ok("zones", f"{len(offered)} zone(s) ({', '.join(offered)}) offer {len(GPU_INSTANCES) - len(nowhere)} of {len(GPU_INSTANCES)} types{rest}.")


#: What an instance speaks to, where no route leads to the internet. The model hub is then out of reach as well.
NEEDED_ENDPOINTS = ("s3", "ecr.api", "ecr.dkr", "logs")


def routes(place: Place) -> Iterator[Finding]:
    """An instance must reach S3 and ECR: through the internet, or through endpoints of the VPC."""
    ec2, subnets = place.client("ec2"), place.subnets()
    stuck = 0
    for subnet in subnets:
        trouble = _trouble(ec2, subnet)
        if trouble:
            stuck += 1
            yield broken("route", f"{subnet['SubnetId']} ({subnet['AvailabilityZone']}): {trouble[0]}", trouble[1])
        elif subnet.get("AvailableIpAddressCount") == 0:
            yield warning("route", f"{subnet['SubnetId']} ({subnet['AvailabilityZone']}) has no free address: nothing can start there.", "sam deploy --guided")
    if subnets and not stuck:
        yield ok("route", f"Instances in all {len(subnets)} subnet(s) reach S3 and the registry.")


def _trouble(ec2: Any, subnet: dict[str, Any]) -> tuple[str, str] | None:
    """Why instances in the subnet get nowhere, and a command; None where they do."""
    table, vpc_id = _route_table(ec2, subnet), subnet["VpcId"]
    way_out = next((route for route in table.get("Routes", []) if route.get("DestinationCidrBlock") == "0.0.0.0/0"), None)
    table_id = table.get("RouteTableId", "ROUTE-TABLE")
    if way_out is not None and way_out.get("State") == "blackhole":
        return (
            "its default route leads nowhere (blackhole): the gateway is gone.",
            f"aws ec2 replace-route --route-table-id {table_id} --destination-cidr-block 0.0.0.0/0 --gateway-id INTERNET-GATEWAY",
        )
    if way_out is not None:
        if str(way_out.get("GatewayId", "")).startswith("igw-") and not subnet.get("MapPublicIpOnLaunch"):
            wanted = f"aws ec2 modify-subnet-attribute --subnet-id {subnet['SubnetId']} --map-public-ip-on-launch"
            return "its route leads to an internet gateway, but instances get no public address, so none of them reaches it.", wanted
        return None
    found = ec2.describe_vpc_endpoints(Filters=[{"Name": "vpc-id", "Values": [vpc_id]}])["VpcEndpoints"]
    present = {item["ServiceName"].split(".", 3)[-1] for item in found if item.get("State", "available").lower() == "available"}
    missing = [name for name in NEEDED_ENDPOINTS if name not in present]
    if not missing:
        return None
    route = f"aws ec2 create-route --route-table-id {table_id} --destination-cidr-block 0.0.0.0/0 --gateway-id INTERNET-GATEWAY"
    return f"it has no route to the internet and its VPC no endpoint for {', '.join(missing)}: instances cannot fetch the image or their ticket.", route


def _route_table(ec2: Any, subnet: dict[str, Any]) -> dict[str, Any]:
    """The subnet's own table, else the VPC's main one (VPC guide, "Route tables")."""
    own = ec2.describe_route_tables(Filters=[{"Name": "association.subnet-id", "Values": [subnet["SubnetId"]]}])["RouteTables"]
    if own:
        return dict(own[0])
    of_vpc = [{"Name": "vpc-id", "Values": [subnet["VpcId"]]}, {"Name": "association.main", "Values": ["true"]}]
    main = ec2.describe_route_tables(Filters=of_vpc)["RouteTables"]
    return dict(main[0]) if main else {}


CHECKS = (Check("zones", lambda stack: zones(home_of(stack))), Check("route", lambda stack: routes(home_of(stack))))
