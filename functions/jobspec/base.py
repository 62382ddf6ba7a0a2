"""What every document of the contract shares: frozen, strict about unknown keys, UTC times, bounded text."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from jobspec.keys import INSTANCE_ID_PATTERN

#: Job names: lower-case letters, digits and hyphens; 48 leaves room for the id's suffix in a 63-character label.
NAME_PATTERN = r"^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$"
MAX_NAME = 48
JOB_ID_PATTERN = r"^[a-z0-9][a-z0-9-]{0,62}$"
#: ``aws:userid`` of an instance profile's session: ``ROLE-ID:INSTANCE-ID`` (IAM guide, policy variables).
WRITER_PATTERN = r"^[A-Z0-9]{4,64}:i-[0-9a-f]{8,17}$"
SHA256_PATTERN = r"^[0-9a-f]{64}$"
#: A file below a folder: no empty part, no part that starts with a dot (so no ``..``), no shell character.
RELATIVE_PATH_PATTERN = r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$"


JobName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
JobId = Annotated[str, StringConstraints(pattern=JOB_ID_PATTERN)]
InstanceId = Annotated[str, StringConstraints(pattern=INSTANCE_ID_PATTERN)]
Writer = Annotated[str, StringConstraints(pattern=WRITER_PATTERN)]
Sha256 = Annotated[str, StringConstraints(pattern=SHA256_PATTERN)]
Text = Annotated[str, StringConstraints(max_length=2000)]


def _to_utc(value: datetime) -> datetime:
    """An aware time in UTC. Raises ValueError where that is outside datetime's years."""
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time outside the years 1 to 9999, seen from UTC") from None


UtcTime = Annotated[AwareDatetime, AfterValidator(_to_utc)]
Step = Annotated[int, Field(ge=0, le=10**9)]
Bytes = Annotated[int, Field(ge=0, le=50 * 1024**4)]
Attempt = Annotated[int, Field(ge=1, le=1000)]
#: NaN and infinity are not JSON; a loss that is not finite is reported as ``None`` with a named failure.
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Document(BaseModel):
    """A frozen JSON document; unknown keys are errors, so that a typo or a newer writer is seen at once."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileDigest(Document):
    """One file: path below the document's own prefix, size in bytes, sha256 of the whole content (hex)."""

    path: Annotated[str, StringConstraints(pattern=RELATIVE_PATH_PATTERN, max_length=512)]
    size: Bytes
    sha256: Sha256
