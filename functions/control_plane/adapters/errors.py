"""Errors of the adapters that mean a broken rule, not a passing fault: each says what was wrong and what to do."""


class JobTooLarge(ValueError):
    """The job's document does not fit a DynamoDB item (400 KB, attribute names included)."""

    def __init__(self, job_id: str, size: int, limit: int, attempts: int) -> None:
        super().__init__(
            f"job {job_id}: its record is {size} bytes after {attempts} attempts, the store takes {limit}; "
            "stop the job and submit it again with fewer instance types or a lower limits.max_attempts"
        )


class InstanceTaken(RuntimeError):
    """A job named an instance that is on another job's record."""

    def __init__(self, job_id: str, instance_ids: list[str]) -> None:
        super().__init__(f"job {job_id} names {', '.join(instance_ids)}, on record for another job; nothing was saved")


class BusRefused(RuntimeError):
    """EventBridge answered 200 and took no event (FailedEntryCount): its code and words are in the message."""
