"""E-mails: owed once, claimed before they are published, and settled by what the topic's second subscriber saw."""

from datetime import timedelta

import pytest

from control_plane.core.actions import Publish, WriteStatus
from control_plane.core.closing import CLAIM_LASTS, CLAIM_SERVES
from control_plane.core.events import BudgetAlerted, InterruptionWarned, NoticePublished, NoticeRefused, TerminationAnswered
from control_plane.core.state import NoticeKind
from tests.core.worlds import FIRST, SECOND, Story, at, marker, new_job, of

#: Second of the story at which the last e-mail is claimed.
CLAIMED = 61
LASTS = CLAIM_LASTS.total_seconds()


@pytest.fixture
def claimed() -> Story:
    """A job that has succeeded, its last e-mail claimed and not marked."""
    story = Story(new_job())
    story.running()
    story.look(60, markers={FIRST: marker(story.job, FIRST)})
    story.tell(TerminationAnswered(FIRST, "shutting-down"), CLAIMED)
    return story


def end_of(story: Story) -> str:
    return f"{story.job.job_id}#end"


def test_a_claim_without_a_trace_in_the_ledger_is_given_up_in_time_and_made_anew(claimed: Story) -> None:
    notice = end_of(claimed)
    assert not of(Publish, claimed.look(CLAIMED + LASTS - 1, in_ledger={notice: False}))
    assert of(Publish, claimed.look(CLAIMED + LASTS, in_ledger={notice: False})) == [Publish(notice)]
    assert claimed.job.notices[0].claimed_at == at(CLAIMED + LASTS), "the new claim has its own time"
    assert not of(Publish, claimed.look(CLAIMED + LASTS + 60, in_ledger={notice: False}))


def test_a_claim_that_the_ledger_knows_is_published_and_nothing_is_sent(claimed: Story) -> None:
    actions = claimed.look(CLAIMED + 60, in_ledger={end_of(claimed): True})
    assert not of(Publish, actions)
    assert of(WriteStatus, actions) == [WriteStatus(last=True)]
    assert claimed.job.notices[0].published_at == at(CLAIMED + 60)


def test_a_claim_is_believed_for_ever_while_the_ledger_cannot_be_read(claimed: Story) -> None:
    for days in range(1, 4):
        assert not of(Publish, claimed.look(CLAIMED + days * 86_400))
    assert claimed.job.notices[0].published_at is None


def test_a_claim_stops_serving_long_before_another_can_be_made() -> None:
    """Between the two lie the longest run of a function and the time that the topic takes to tell the ledger."""
    assert timedelta(minutes=5) <= CLAIM_LASTS - CLAIM_SERVES


def test_what_the_topic_refused_is_claimed_again_by_the_next_look_and_not_in_this_round(claimed: Story) -> None:
    assert claimed.tell(NoticeRefused(end_of(claimed)), CLAIMED + 1) == ()
    assert claimed.job.notices[0].claimed_at is None
    assert of(Publish, claimed.look(CLAIMED + 2)) == [Publish(end_of(claimed))]


def test_a_ledgers_word_does_not_move_the_time_of_a_marked_publish(claimed: Story) -> None:
    claimed.tell(NoticePublished(end_of(claimed)), CLAIMED + 1)
    claimed.look(CLAIMED + 60, in_ledger={end_of(claimed): True})
    assert claimed.job.notices[0].published_at == at(CLAIMED + 1)


def test_a_word_on_another_notice_changes_nothing(claimed: Story) -> None:
    assert not of(Publish, claimed.look(CLAIMED + LASTS, in_ledger={"other-0123456789#end": False}))
    assert claimed.job.notices[0].published_at is None


def test_the_last_e_mail_does_not_wait_for_ever() -> None:
    story = Story(new_job())
    story.running()
    assert not of(Publish, story.look(60, markers={FIRST: marker(story.job, FIRST)}))
    assert of(Publish, story.look(661))


def test_e_mails_by_choice_are_owed_only_when_chosen() -> None:
    quiet, loud = Story(new_job(notify={"on": []})), Story(new_job(notify={"on": ["interrupted", "relaunched"]}))
    for story in (quiet, loud):
        story.running()
        story.tell(InterruptionWarned(FIRST), 100)
        story.look(100)
        story.launch(101, SECOND)
        story.tell(BudgetAlerted(), 102)
    assert quiet.job.notices == ()
    assert [n.kind for n in loud.job.notices] == [NoticeKind.INTERRUPTED, NoticeKind.RELAUNCHED]
