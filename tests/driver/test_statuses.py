"""The status object: told once a drive, never an older word over a newer one, and read only where somebody else may have written."""

from typing import Any

import pytest

from control_plane.core.state import JobState
from jobspec import keys, wire
from tests.driver.faults import lost, meanwhile
from tests.driver.house import DATA, House

KEY = keys.status_key("tale")


class Heard:
    def __init__(self, house: House) -> None:
        self.calls: list[tuple[str, str]] = []
        self._gate, house.account.gate = house.account.gate, self

    def __call__(self, operation: str, subject: str, effect: Any) -> Any:
        self.calls.append((operation, subject))
        return self._gate(operation, subject, effect)

    def of_status(self) -> list[str]:
        return [operation for operation, subject in self.calls if subject == KEY]


def test_a_warning_and_its_replacement_are_told_in_one_write(house: House) -> None:
    house.put()
    house.beat()
    house.tick()
    heard = Heard(house)
    house.warn(house.attempt)
    assert heard.of_status() == ["s3.put_object"]
    status = house.status()
    assert status is not None
    assert (len(status.attempts), status.revision) == (2, house.job.version)


def test_what_another_process_has_written_meanwhile_is_read_and_an_older_word_is_not_put_over_it(house: House) -> None:
    house.put()
    newer = house.status()
    assert newer is not None
    house.s3.write(DATA, KEY, wire.dump(newer.model_copy(update={"revision": newer.revision + 100, "reason": "of a later driver"})))
    heard = Heard(house)
    house.beat()
    house.tick()
    assert heard.of_status() == ["s3.put_object", "s3.get_object"]
    status = house.status()
    assert status is not None
    assert status.reason == "of a later driver"


@pytest.mark.parametrize("body", [b"not a status", b"{}"])
def test_what_is_no_status_is_written_over(house: House, body: bytes) -> None:
    house.put()
    house.s3.write(DATA, KEY, body)
    house.beat()
    house.tick()
    status = house.status()
    assert status is not None
    assert status.revision == house.job.version


def test_a_status_that_was_deleted_is_put_anew(house: House) -> None:
    house.put()
    house.s3.remove(DATA, KEY)
    house.beat()
    house.tick()
    assert house.status() is not None


def test_what_was_saved_is_told_also_where_the_look_after_it_fails(house: House) -> None:
    """The deletion is on record; then the record cannot be written any more."""
    house.put()
    before = house.job.version
    house.faults.once("dynamodb.transact_write_items", lost(effect=False), skip=1)
    with pytest.raises(Exception, match="Read timeout"):
        house.delete()
    assert house.faults.all_met
    status = house.status()
    assert status is not None
    assert status.revision == house.job.version == before + 1
    house.tick()
    assert house.job.state is JobState.CANCELLED


def test_a_write_that_others_outrun_reads_what_they_have_written(house: House) -> None:
    house.put()
    older = house.status()
    assert older is not None
    house.beat()
    house.faults.once("s3.put_object", meanwhile(lambda: house.s3.write(DATA, KEY, wire.dump(older.model_copy(update={"reason": "again"})))), about=KEY)
    house.tick()
    assert house.faults.all_met
    status = house.status()
    assert status is not None
    assert status.revision == house.job.version
