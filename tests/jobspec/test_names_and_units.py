"""Keys, tags and durations: what one side puts together the other takes apart, and nothing else passes."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobspec import keys, tags
from jobspec.base import JOB_ID_PATTERN, NAME_PATTERN
from jobspec.units import duration_text, seconds_from

JOB_IDS = st.from_regex(JOB_ID_PATTERN.rstrip("$"), fullmatch=True).filter(str.isascii)
INSTANCE_IDS = st.from_regex(r"i-([0-9a-f]{8}|[0-9a-f]{17})", fullmatch=True)
ROLE_IDS = st.from_regex(r"AROA[A-Z0-9]{4,17}", fullmatch=True)


@given(JOB_IDS, ROLE_IDS, INSTANCE_IDS)
def test_a_markers_key_says_whose_it_is(job_id: str, role_id: str, instance_id: str) -> None:
    writer = keys.writer_of(role_id, instance_id)
    parsed = keys.parse_marker_key(keys.marker_key(job_id, writer))
    assert parsed == keys.MarkerKey(job_id, writer, instance_id)
    assert keys.instance_of(writer) == instance_id


@given(JOB_IDS, ROLE_IDS, INSTANCE_IDS, st.integers(0, 10**9))
def test_everything_an_instance_writes_lies_under_its_own_prefix(job_id: str, role_id: str, instance_id: str, step: int) -> None:
    writer = keys.writer_of(role_id, instance_id)
    checkpoint = keys.checkpoint_prefix(job_id, writer, step) + keys.CHECKPOINT_MANIFEST_NAME
    mine = [
        keys.heartbeat_key(job_id, writer),
        keys.marker_key(job_id, writer),
        keys.final_prefix(job_id, writer),
        keys.logs_prefix(job_id, writer),
        checkpoint,
    ]
    assert all(key.startswith(f"runs/{job_id}/{writer}/") for key in mine)
    assert keys.checkpoint_step(checkpoint) == step
    assert [key for key in mine if keys.parse_marker_key(key)] == [keys.marker_key(job_id, writer)]


@given(st.lists(st.integers(0, 99_999_999), min_size=2))
def test_checkpoints_list_in_the_order_of_their_steps(steps: list[int]) -> None:
    assert sorted(keys.checkpoint_folder(step) for step in steps) == [keys.checkpoint_folder(step) for step in sorted(steps)]


@pytest.mark.parametrize("key", ["jobs/a.yaml", "jobs/a.yml", "jobs/a.json", "jobs/team/x_1/A.b-c.yaml"])
def test_a_manifest_key_is_known(key: str) -> None:
    assert keys.is_manifest_key(key)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "jobs/",
        "jobs/.yaml/",
        "jobs/a.txt",
        "jobs/a.YAML",
        "status/a.json",
        "xjobs/a.yaml",
        "jobs/a b.yaml",
        "jobs/a+b.yaml",
        "jobs/a%2Bb.yaml",
        "jobs/ä.yaml",
        "jobs//a.yaml",
        "jobs/a.yaml\n",
        "/jobs/a.yaml",
    ],
)
def test_no_other_key_is_a_manifests(key: str) -> None:
    assert not keys.is_manifest_key(key)


@given(st.from_regex(NAME_PATTERN.rstrip("$"), fullmatch=True))
def test_what_the_control_plane_writes_about_a_job_is_never_a_manifest(name: str) -> None:
    assert not keys.is_manifest_key(keys.status_key(name))
    assert not keys.is_manifest_key(keys.refused_key(name))
    assert keys.status_key(name) != keys.refused_key(name)


@pytest.mark.parametrize(
    "key",
    [
        "runs/job/AROAEXAMPLE:i-0123456789abcdef0/sub/completion.json",
        "runs/job/AROAEXAMPLE:i-0123456789abcdef0/completion.json.bak",
        "runs/../AROAEXAMPLE:i-0123456789abcdef0/completion.json",
        "runs/job/aroaexample:i-0123456789abcdef0/completion.json",
        "runs/job/AROAEXAMPLE:i-xyz/completion.json",
        "runs/job/AROAEXAMPLE:i-0123456789abcdef0/completion.json\n",
        "runs//AROAEXAMPLE:i-0123456789abcdef0/completion.json",
    ],
)
def test_no_other_key_is_a_markers(key: str) -> None:
    assert keys.parse_marker_key(key) is None


@given(st.text())
def test_any_key_gives_a_valid_name(key: str) -> None:
    name = keys.name_from_key(key)
    assert keys.is_manifest_key(f"jobs/{name}.yaml")
    assert re.fullmatch(NAME_PATTERN, name)


@given(st.integers(1, 4_000_000_000), st.integers(1, 1000))
def test_the_deadline_comes_back_from_the_tags(seconds: int, attempt: int) -> None:
    deadline = datetime.fromtimestamp(seconds, UTC)
    made = tags.instance_tags(project="dropforge", job_id="a-1", attempt=attempt, client_token="t", deadline_at=deadline)
    assert set(tags.REQUIRED) <= set(made)
    assert tags.deadline_of(made) == deadline
    assert all("/" not in key and " " not in key for key in made)


@pytest.mark.parametrize("text", ["", "soon", "-5", "1e9", "12345678901234", "१२३", " 5"])
def test_an_unreadable_deadline_tag_is_none(text: str) -> None:
    assert tags.deadline_of({tags.DEADLINE: text}) is None


@given(st.integers(1, 90 * 86400))
def test_a_durations_text_is_read_back_as_the_same_seconds(seconds: int) -> None:
    assert seconds_from(duration_text(seconds)) == seconds


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("4h", 14400), ("1h30m", 5400), ("2d", 172800), ("1d1h1m1s", 90061), ("0s", 0)])
def test_durations_are_read(text: str, seconds: int) -> None:
    assert seconds_from(text) == seconds


@pytest.mark.parametrize("value", ["", "5", "5 m", "m", "1.5h", "-5m", "5M", "1m1h", "१h", "1h ", "1h\n", "5" * 99 + "s", 5, 5.0, True, None, ["1h"]])
def test_nothing_else_is_a_duration(value: object) -> None:
    with pytest.raises(ValueError, match="a duration such as"):
        seconds_from(value)
