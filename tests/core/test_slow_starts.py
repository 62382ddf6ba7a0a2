"""What a job believes of its next start when those before it were slow, or never came to train."""

from control_plane.core.history import BESIDE_S, PRIOR_DELAY_S, PRIOR_RETURN_S, history_of
from jobspec.heartbeat import Phase
from tests.core.worlds import FIRST, SECOND, Story, at, heartbeat, new_job


def staging(seconds: float) -> Story:
    """An instance of second 1 that was last heard of in its staging."""
    story = Story(new_job(compute={"market": "cheapest"}))
    story.look(0)
    story.launch(1, FIRST)
    for seq, moment in enumerate((60, seconds), start=1):
        story.look(moment, heartbeats={FIRST: heartbeat(story.job, FIRST, seq=seq, phase=Phase.STAGING)})
    return story


def test_a_start_that_still_stages_is_taken_for_as_long_as_it_has_been_seen_to_and_for_the_usual_before_that() -> None:
    assert history_of(staging(300).job, at(300)).delay_s == PRIOR_DELAY_S
    assert history_of(staging(1501).job, at(1501)).delay_s == 1500


def test_a_start_that_was_lost_in_its_staging_is_remembered_until_three_newer_ones_have_been() -> None:
    story = staging(1501)
    story.gone(FIRST, "Server.SpotInstanceTermination")
    story.look(1560)
    story.launch(1561, SECOND)
    story.look(1700, heartbeats={SECOND: heartbeat(story.job, SECOND, seq=1, step=0)})
    assert history_of(story.job, at(1700)).delay_s == 1500, "the newer start took two minutes, and nobody knows how long that one would have"
    job = story.job.model_copy(update={"attempts": (story.job.attempts[0], *[story.job.attempts[1]] * 3)})
    assert history_of(job, at(1700)).delay_s == 139


def test_an_instance_that_trains_is_measured_by_its_first_word_of_it_and_not_by_its_staging() -> None:
    story = staging(1501)
    story.look(1621, heartbeats={FIRST: heartbeat(story.job, FIRST, seq=3, step=0)})
    assert history_of(story.job, at(5000)).delay_s == 1620


def test_where_starts_take_longer_than_two_instances_stand_side_by_side_leaving_on_demand_costs_the_rest_too() -> None:
    """The instance that works is relieved after that time, though the other is not ready: until it is, nobody works."""
    assert history_of(staging(900).job, at(900)).return_delay_s == PRIOR_RETURN_S
    assert history_of(staging(BESIDE_S + 301).job, at(BESIDE_S + 301)).return_delay_s == PRIOR_RETURN_S + 300


def test_of_the_newest_starts_the_slowest_is_believed() -> None:
    story = staging(1501)
    story.look(1621, heartbeats={FIRST: heartbeat(story.job, FIRST, seq=3, step=0)})
    story.gone(FIRST, "Server.SpotInstanceTermination")
    story.look(1680)
    story.launch(1681, SECOND)
    story.look(1800, heartbeats={SECOND: heartbeat(story.job, SECOND, seq=1, step=0)})
    assert history_of(story.job, at(1800)).delay_s == 1620
