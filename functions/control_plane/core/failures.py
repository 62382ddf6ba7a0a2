"""AWS error codes, named once, in sets: each set has its own answer. Sources: EC2 "Error codes" page; Karpenter pkg/errors."""

from enum import StrEnum

CAPACITY = frozenset(
    {
        "InsufficientInstanceCapacity",
        "UnfulfillableCapacity",
        "InsufficientHostCapacity",
        "InsufficientReservedInstanceCapacity",
        "Unsupported",  # the type is not offered in that zone
        "InsufficientFreeAddressesInSubnet",
        "SpotMaxPriceTooLow",
        "ReservationCapacityExceeded",
    }
)
#: The account's own limits: the same for every pool of the market, and a person must ask for more.
QUOTA = frozenset({"MaxSpotInstanceCountExceeded", "VcpuLimitExceeded", "InstanceLimitExceeded", "MaxFleetCountExceeded"})
THROTTLE = frozenset(
    {"RequestLimitExceeded", "Throttling", "ThrottlingException", "RequestThrottled", "EC2ThrottledException", "SlowDown", "TooManyRequestsException"}
)
#: The stack or its rights are wrong: no other pool or moment will do better.
CONFIGURATION = frozenset(
    {
        "UnauthorizedOperation",
        "AccessDenied",
        "AccessDeniedException",
        "AuthFailure",
        "OptInRequired",
        "InvalidAMIID.NotFound",
        "InvalidAMIID.Malformed",
        "InvalidAMIID.Unavailable",
        "InvalidLaunchTemplateId.NotFound",
        "InvalidLaunchTemplateId.Malformed",
        "InvalidLaunchTemplateId.VersionNotFound",
        "InvalidLaunchTemplateName.NotFoundException",
        "InvalidSubnetID.NotFound",
        "InvalidGroup.NotFound",
        "InvalidParameterValue",
        "InvalidParameterCombination",
        "MissingParameter",
        "InvalidFleetConfig",
        "InvalidBlockDeviceMapping",
        "PendingVerification",
    }
)
#: The client token was used before with other parameters, or its instance has ended since: plan anew.
TOKEN_SPENT = frozenset({"IdempotentParameterMismatch", "IdempotentInstanceTerminated"})
#: Nothing says whether the call had its effect: repeat the same plan, look by tag.
UNKNOWN_OUTCOME = frozenset({"InternalError", "InternalFailure", "ServiceUnavailable", "Unavailable", "RequestTimeout", "RequestExpired"})
#: Not found is not proof of absence (EC2 guide, "Eventual consistency").
NOT_FOUND = frozenset({"InvalidInstanceID.NotFound"})

SPOT_INTERRUPTED = frozenset({"Server.SpotInstanceTermination", "Server.SpotInstanceShutdown"})


class RefusalKind(StrEnum):
    CAPACITY = "capacity"
    QUOTA = "quota"
    THROTTLE = "throttle"
    CONFIGURATION = "configuration"
    TOKEN_SPENT = "token-spent"  # noqa: S105 - an error class, not a secret
    UNKNOWN = "unknown"


def kind_of(code: str) -> RefusalKind:
    """The class of an EC2 error code; a code that nobody listed is UNKNOWN and is retried a few times, with care."""
    for kind, codes in (
        (RefusalKind.CAPACITY, CAPACITY),
        (RefusalKind.QUOTA, QUOTA),
        (RefusalKind.THROTTLE, THROTTLE),
        (RefusalKind.CONFIGURATION, CONFIGURATION),
        (RefusalKind.TOKEN_SPENT, TOKEN_SPENT),
    ):
        if code in codes:
            return kind
    return RefusalKind.UNKNOWN


#: A fleet call answers with an error for each pool; the one that decides is the first of these that occurs.
_DECIDES_FIRST = (
    RefusalKind.CONFIGURATION,
    RefusalKind.QUOTA,
    RefusalKind.TOKEN_SPENT,
    RefusalKind.CAPACITY,
    RefusalKind.THROTTLE,
    RefusalKind.UNKNOWN,
)


def deciding_kind(codes: list[str]) -> RefusalKind:
    """The class that a whole answer falls in. Capacity beside a throttle is a wait; configuration only if all say so."""
    kinds = {kind_of(code) for code in codes}
    if len(kinds) > 1:
        # One pool whose type or subnet is wrong must not end a job that other pools could serve.
        kinds.discard(RefusalKind.CONFIGURATION)
    return next((kind for kind in _DECIDES_FIRST if kind in kinds), RefusalKind.UNKNOWN)
