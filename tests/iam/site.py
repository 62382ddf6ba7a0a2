"""The stack as IAM sees it: its roles with their policies, the policies of its resources, and a name for each of its parts."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from typing import Any

from dropforge.local.iam.policies import Decision, Principal, Request, Statement, decide, statements_of
from tools.stack import PSEUDO, Stack, arns_for

ACCOUNT, REGION = PSEUDO["AWS::AccountId"], PSEUDO["AWS::Region"]
EC2 = f"arn:aws:ec2:{REGION}:{ACCOUNT}"
#: Another bucket that jobs may read from.
SHARED = "shared-material"
#: The project's other region.
PEER = "us-west-2"
READS = {"ReadBuckets": SHARED, "PeerRegions": PEER}
#: The name of the parameter with the webhook's address.
HOOK = {"WebhookParameter": "/dropforge/webhook"}
TRACKING = {"TrackingPath": "/dropforge/tracking"}
#: With a repository and another bucket, so that every role, every statement and the permissions boundary are there.
WHOLE = {"GitHubRepository": "me/it", "GitHubRepositoryId": "123", "GitHubOwnerId": "45", **READS, **HOOK, **TRACKING}
ROLE_ID = "AROAEXAMPLEROLEID0001"
#: A resource's own policy: its type, where its document lies, and what it is the policy of.
_ATTACHED = {"AWS::S3::BucketPolicy": "Bucket", "AWS::SNS::TopicPolicy": "Topics", "AWS::SQS::QueuePolicy": "Queues"}


@dataclass(frozen=True)
class Role:
    name: str
    arn: str
    statements: tuple[Statement, ...]
    boundary: tuple[Statement, ...] | None
    trust: tuple[Statement, ...]


@dataclass
class Site:
    """``decide`` answers as IAM would in the account that the stack is deployed to. Give a changed Stack to plant a bug."""

    stack: Stack = field(default_factory=lambda: Stack(parameters=WHOLE))

    @cached_property
    def roles(self) -> dict[str, Role]:
        return {name: self._role(name) for name in self.stack.of_type("AWS::IAM::Role")}

    def _role(self, name: str) -> Role:
        role = self.shaped(self.stack.properties(name))
        managed = {self.arn(policy): policy for policy in self.stack.of_type("AWS::IAM::ManagedPolicy")}
        # A policy of AWS's own, which a parameter asks for, is not in the template.
        attached = [managed[arn] for arn in role.get("ManagedPolicyArns", []) if arn in managed]
        statements = [one for policy in attached for one in self.managed(policy)]
        statements += [one for policy in role.get("Policies", []) for one in statements_of(name, policy["PolicyDocument"])]
        limit = self.managed(managed[role["PermissionsBoundary"]]) if "PermissionsBoundary" in role else None
        return Role(name, self.arn(name), tuple(statements), limit, statements_of(f"{name} trust", role["AssumeRolePolicyDocument"]))

    def managed(self, policy: str) -> tuple[Statement, ...]:
        return statements_of(policy, self.shaped(self.stack.properties(policy)["PolicyDocument"]))

    @cached_property
    def attached(self) -> dict[str, tuple[Statement, ...]]:
        """The policies of resources by ARN; a function's is made of its Lambda permissions."""
        found: dict[str, tuple[Statement, ...]] = {}
        for kind, of in _ATTACHED.items():
            for name, properties in self.stack.of_type(kind).items():
                owners = properties[of] if isinstance(properties[of], list) else [properties[of]]
                for owner in self.shaped(owners):
                    found[owner] = found.get(owner, ()) + statements_of(name, self.shaped(properties["PolicyDocument"]))
        for name, permission in self.stack.of_type("AWS::Lambda::Permission").items():
            given = self.shaped(permission)
            arn = given["FunctionName"]
            found[arn] = found.get(arn, ()) + statements_of(name, _as_policy(given))
        return found

    def arn(self, name: str) -> str:
        """The ARN of a resource of the template, by its logical id."""
        return str(self.shaped(f"<{name}.Arn>"))

    def ref(self, name: str) -> str:
        """What ``Ref`` gives for a resource whose shape has no ARN: a launch template's id, say."""
        return str(self.shaped(f"<{name}>"))

    def physical(self, name: str) -> str:
        """A name such as CloudFormation makes for a resource without one."""
        return f"{self.stack.values['AWS::StackName']}-{name}-EXAMPLE"

    def shaped(self, document: Any) -> Any:
        """The document with ARNs and names for its references."""
        return arns_for(self.stack, document)

    def decide(self, role: str, request: Request) -> Decision:
        one = self.roles[role]
        return decide(request, one.statements, boundary=one.boundary, resource=self.policy_of(request.resource), principal={"AWS": one.arn})

    def decide_for(self, principal: Principal, request: Request) -> Decision:
        """For who has no policy of this stack: a service of AWS, or somebody who would take a role."""
        trusts = {role.arn: role.trust for role in self.roles.values()}
        return decide(request, (), resource=(*self.policy_of(request.resource), *trusts.get(request.resource, ())), principal=principal)

    def policy_of(self, resource: str) -> tuple[Statement, ...]:
        """The policy of a resource, or of the bucket that an object lies in."""
        return self.attached.get(resource.partition("/")[0] if resource.startswith("arn:aws:s3:::") else resource, ())

    # What EC2 knows (dropforge.local.iam.launches.Facts), but for the tags of instances.

    @property
    def launch_template(self) -> dict[str, Any]:
        data = self.stack.properties("LaunchTemplate")["LaunchTemplateData"]
        found: dict[str, Any] = self.shaped({key: value for key, value in data.items() if key != "UserData"})
        return found

    def profile_roles(self, profile: Mapping[str, str]) -> list[str]:
        """``arns_for`` gives a profile its logical id's name, its roles their ARNs."""
        profiles = {name.lower(): self.shaped(found["Roles"]) for name, found in self.stack.of_type("AWS::IAM::InstanceProfile").items()}
        return list(profiles.get(profile.get("Arn", ""), [profile["Arn"]] if "Arn" in profile else []))


@cache
def the_site() -> Site:
    """The stack as it is, read once a session. Whoever plants a bug makes a Site of his own."""
    return Site()


def _as_policy(permission: Mapping[str, Any]) -> dict[str, Any]:
    """A Lambda permission as the statement that Lambda makes of it (Lambda guide, "Resource-based policies")."""
    condition: dict[str, Any] = {}
    if "SourceArn" in permission:
        condition["ArnLike"] = {"aws:SourceArn": permission["SourceArn"]}
    if "SourceAccount" in permission:
        condition["StringEquals"] = {"aws:SourceAccount": permission["SourceAccount"]}
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": permission["Principal"]},
        "Action": permission["Action"],
        "Resource": permission["FunctionName"],
        "Condition": condition,
    }
    return {"Version": "2012-10-17", "Statement": [statement]}
