"""Checks on the stack's other regions: that a stack of region.yaml stands there, and all that a launch there needs."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from botocore.exceptions import ClientError

from dropforge.operate.checks_launching import launch, quotas
from dropforge.operate.checks_network import routes, zones
from dropforge.operate.findings import Check, Finding, broken, ok, warning
from dropforge.operate.places import Place, home_of, peer_of
from dropforge.stack import Deployment

#: As at home, with what that region has.
_AS_AT_HOME: dict[str, Callable[[Place], Iterator[Finding]]] = {"quota": quotas, "launch": launch, "zones": zones, "route": routes}


def checks_in(region: str) -> tuple[Check, ...]:
    """The first says whether there is anything to look at; the others are only of use where it is."""

    def of(look: Callable[[Place], Iterator[Finding]]) -> Callable[[Deployment], Iterator[Finding]]:
        return lambda stack: (_there(stack, region, finding) for finding in look(peer_of(stack, region)))

    return (Check("region", lambda stack: _stands(stack, region)), *(Check(name, of(look)) for name, look in _AS_AT_HOME.items()))


def _stands(stack: Deployment, region: str) -> Iterator[Finding]:
    try:
        place = peer_of(stack, region)
    except ValueError as error:
        yield broken("region", f"{region}: {error}", _deploy(stack, region))
        return
    except ClientError as error:
        if error.response["Error"]["Code"] != "ParameterNotFound":
            raise
        yield broken("region", f"{region}: no stack of region.yaml stands there, so nothing can be launched there.", _deploy(stack, region))
        return
    here, there = home_of(stack).facts(), place.facts()
    other = sorted(name for name in here.keys() | there.keys() if here.get(name) != there.get(name))
    if other:
        said = ", ".join(f"{name} {there.get(name, '')!r} there, {here.get(name, '')!r} at home" for name in other)
        yield warning("region", f"{region}: its launch template is older than the home stack: {said}.", _deploy(stack, region))
    else:
        yield ok("region", f"{region}: jobs that name it may run there, from {place.template_id} version {place.template_version}.")


def _there(stack: Deployment, region: str, finding: Finding) -> Finding:
    """The region's name before what is said, and in the command that mends it."""
    mend = finding.mend
    if mend.startswith("sam deploy"):
        mend = _deploy(stack, region)
    elif mend:
        mend = f"{mend} --region {region}"
    return replace(finding, means=f"{region}: {finding.means}", mend=mend)


def _deploy(stack: Deployment, region: str) -> str:
    """docs/deployment.md, Another region."""
    query = f"--stack-name {stack.name} --query \"Stacks[0].Outputs[?OutputKey=='PeerParameters'].OutputValue\" --output text"
    return (
        f"aws cloudformation deploy --region {region} --stack-name {stack.name}-region --template-file region.yaml --capabilities CAPABILITY_IAM "
        f"--parameter-overrides $(aws cloudformation describe-stacks --region {stack.region} {query})"
    )
