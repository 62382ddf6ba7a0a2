"""One e-mail for each end, whatever becomes of the call that publishes it: the topic's second subscriber is the witness."""

from collections.abc import Callable

import pytest

from control_plane.core.closing import CLAIM_LASTS, CLAIM_SERVES
from control_plane.driver import ActionsFailed
from tests.driver.faults import Crash, Fault, crash_after, crash_before, lost, refused, slow
from tests.driver.house import House

#: Ticks until an unmarked claim is given up.
CLAIM_TICKS = int(CLAIM_LASTS.total_seconds() // 60)


@pytest.fixture
def refuse(house: House) -> Callable[[], None]:
    """Puts a manifest that is refused: its job owes one e-mail and nothing else."""

    def put() -> None:
        house.put("jobs/broken.yaml", b"\x00")

    return put


def ticks(house: House, count: int) -> None:
    for _ in range(count):
        house.tick()


def assert_one_letter_and_settled(house: House) -> None:
    assert [mail.notice_id for mail in house.mails] == [f"{house.jobs[0].job_id}#end"]
    assert [job.settled for job in house.jobs] == [True]


def test_a_crash_after_the_publish_sends_no_second_e_mail(house: House, refuse: Callable[[], None]) -> None:
    house.faults.once("sns.publish", crash_after)
    with pytest.raises(Crash):
        refuse()
    assert not house.jobs[0].settled
    house.tick()
    assert_one_letter_and_settled(house)
    ticks(house, CLAIM_TICKS + 5)
    assert_one_letter_and_settled(house)


def test_a_crash_before_the_publish_sends_it_after_the_claims_time(house: House, refuse: Callable[[], None]) -> None:
    house.faults.once("sns.publish", crash_before)
    with pytest.raises(Crash):
        refuse()
    ticks(house, CLAIM_TICKS - 1)
    assert house.mails == []
    ticks(house, 1)
    assert_one_letter_and_settled(house)


def test_a_timeout_of_a_publish_that_was_made_sends_no_second_e_mail(house: House, refuse: Callable[[], None]) -> None:
    house.faults.once("sns.publish", lost(effect=True))
    with pytest.raises(ActionsFailed, match="ReadTimeoutError"):
        refuse()
    ticks(house, CLAIM_TICKS + 5)
    assert_one_letter_and_settled(house)


@pytest.mark.parametrize("fault", [lost(effect=False), refused("InternalError")])
def test_a_publish_that_may_have_been_made_is_repeated_only_after_the_claims_time(house: House, refuse: Callable[[], None], fault: Fault) -> None:
    house.faults.once("sns.publish", fault)
    with pytest.raises(ActionsFailed):
        refuse()
    ticks(house, CLAIM_TICKS - 1)
    assert house.mails == []
    ticks(house, 1)
    assert_one_letter_and_settled(house)


@pytest.mark.parametrize("code", ["AuthorizationError", "Throttling", "KMSAccessDenied"])
def test_a_topic_that_refuses_is_asked_again_at_the_next_look(house: House, refuse: Callable[[], None], code: str) -> None:
    house.faults.once("sns.publish", refused(code))
    refuse()
    assert house.mails == []
    house.tick()
    assert_one_letter_and_settled(house)


def test_a_topic_that_goes_on_refusing_is_asked_once_a_look(house: House, refuse: Callable[[], None]) -> None:
    asked: list[str] = []

    def no(operation: str, made: object) -> None:
        asked.append(operation)
        refused("AuthorizationError")(operation, lambda: None)

    house.faults.down(no, "sns")
    refuse()
    ticks(house, 4)
    assert len(asked) == 5
    house.faults.mend()
    house.tick()
    assert_one_letter_and_settled(house)


def test_a_function_that_stalled_after_its_claim_publishes_nothing(house: House, refuse: Callable[[], None]) -> None:
    """Should it wake when another may have claimed the e-mail anew, two would be sent."""
    house.faults.once("dynamodb.transact_write_items", slow(lambda: house.wait(CLAIM_SERVES.total_seconds())), skip=1)
    with pytest.raises(ActionsFailed, match="ClaimTooOld"):
        refuse()
    assert house.faults.all_met
    assert house.mails == []
    ticks(house, CLAIM_TICKS)
    assert_one_letter_and_settled(house)


def test_while_the_ledger_cannot_be_read_a_claim_stands(house: House, refuse: Callable[[], None]) -> None:
    house.faults.once("sns.publish", lost(effect=True))
    with pytest.raises(ActionsFailed):
        refuse()
    house.faults.down(lost(effect=False), "dynamodb.get_item", about=f"NOTICE#{house.jobs[0].job_id}#end")
    ticks(house, CLAIM_TICKS + 5)
    assert len(house.mails) == 1
    assert not house.jobs[0].settled
    house.faults.mend()
    house.tick()
    assert_one_letter_and_settled(house)


def test_a_note_that_comes_late_still_keeps_the_second_e_mail_away(house: House, refuse: Callable[[], None]) -> None:
    house.faults.once("sns.publish", lost(effect=True))
    with pytest.raises(ActionsFailed):
        refuse()
    late, house._notes = house._notes, []
    ticks(house, CLAIM_TICKS - 1)
    house._notes = late
    ticks(house, 10)
    assert_one_letter_and_settled(house)


def test_a_lost_mark_is_made_up_from_the_ledger(house: House, refuse: Callable[[], None]) -> None:
    house.faults.once("dynamodb.transact_write_items", refused("ThrottlingException"), skip=2)
    with pytest.raises(Exception, match="ThrottlingException"):
        refuse()
    assert len(house.mails) == 1
    ticks(house, CLAIM_TICKS + 5)
    assert_one_letter_and_settled(house)
