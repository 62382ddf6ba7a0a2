"""``dropforge plan``, and the price that ``submit`` shows before it sends."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from dropforge import stack as stacks
from dropforge.cli import main
from tests.cli.bucket import Bucket, new_bucket
from tests.driver.test_feasibility import LLAMA_8B

JOB: dict[str, Any] = {
    "name": "mine",
    "model": {"s3": "models/m/"},
    "data": {"train": "data/t.jsonl"},
    "compute": {"instance_types": ["g4dn.xlarge", "g5.xlarge"]},
}
#: The real one, which the fixture replaces.
FIND_STACK = stacks.find_stack
LLAMA_OF_THE_HUB = {"hub": "meta-llama/Llama-3.1-8B-Instruct", "revision": "0" * 40}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    with new_bucket() as made:
        monkeypatch.setattr(stacks, "find_stack", lambda name: made.stack)
        yield made


@pytest.fixture
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


def written(folder: Path, **changes: Any) -> str:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(JOB | changes))
    return str(path)


def rows_in(folder: Path, count: int) -> str:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": "word " * (20 + at % 200)}) + "\n" for at in range(count)))
    return str(path)


def run(*words: str) -> Result:
    result = CliRunner().invoke(main, list(words))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def told(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_a_plan_reads_the_model_and_the_rows_where_the_manifest_says_they_are(bucket: Bucket, tmp_path: Path) -> None:
    result = run("plan", written(tmp_path))
    assert result.exit_code == 0, result.output
    assert "fits" in result.output
    assert "llama, 3 layers" in result.output
    assert "1 rows, 1 steps of 16" in result.output


def test_a_plan_is_priced_on_demand_in_the_stacks_own_region(bucket: Bucket, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    at_home = told(run("plan", written(tmp_path), "--json"))
    monkeypatch.setattr(stacks.Stack, "region", "sa-east-1")
    abroad = told(run("plan", written(tmp_path), "--json"))
    assert (at_home["on_demand_regions"], abroad["on_demand_regions"]) == (["us-east-1"], ["sa-east-1"])
    assert abroad["types"][0]["usd_on_demand"]["typical"] == pytest.approx(1.7 * at_home["types"][0]["usd_on_demand"]["typical"], rel=0.01)
    assert "on-demand prices of sa-east-1, typical spot of us-east-1" in " ".join(run("plan", written(tmp_path)).output.split())
    assert "on-demand would be $0.89 an hour (g4dn.xlarge, sa-east-1)" in run("submit", written(tmp_path), "--dry-run").output


def test_a_plan_of_a_well_known_model_needs_no_account_and_says_what_it_lacks(no_account: None, tmp_path: Path) -> None:
    result = run("plan", written(tmp_path, model=LLAMA_OF_THE_HUB, compute={"instance_types": ["g5.xlarge"]}), "--json")
    assert result.exit_code == 0, result.output
    plan = told(result)
    assert plan["model"]["parameters"] == 8_030_261_248
    assert plan["types"][0]["hours"] is None
    assert any(line.startswith("The data: ") and line.endswith("--data FILE") for line in plan["warnings"])


def test_local_copies_are_counted_and_need_no_account(no_account: None, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA_8B))
    job = written(tmp_path, compute={"instance_types": ["g5.xlarge"]})
    result = run("plan", job, "--json", "--model", str(tmp_path), "--data", rows_in(tmp_path, 3000))
    assert result.exit_code == 0, result.output
    plan = told(result)
    assert plan["data"] == {"rows": 3000, "counted": True}
    assert plan["steps"] == 179, "2,850 rows are trained on, 16 a step"
    (one,) = plan["types"]
    assert one["memory_bytes"]["total"] == pytest.approx(sum(size for name, size in one["memory_bytes"].items() if name != "total"), abs=9)
    assert one["hours"]["least"] < one["hours"]["typical"] < one["hours"]["most"]
    assert one["usd_spot"]["typical"] < one["usd_on_demand"]["typical"]
    assert one["save_in_time"]


def test_a_job_that_would_be_refused_exits_1_with_the_nearest_that_would_do(no_account: None, tmp_path: Path) -> None:
    job = written(tmp_path, model=LLAMA_OF_THE_HUB)
    result = run("plan", job)
    assert result.exit_code == 1
    assert "It would be refused" in result.output
    assert "allowed: [g5.xlarge]" in result.output
    plan = told(run("plan", job, "--json"))
    assert not plan["accepted"]
    assert [one["verdict"] for one in plan["types"]] == ["no", "fits"]


def test_every_offered_type_is_compared_on_request(no_account: None, tmp_path: Path) -> None:
    plan = told(run("plan", written(tmp_path, model=LLAMA_OF_THE_HUB), "--all-types", "--json"))
    assert len(plan["types"]) > 10


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": {"hub": "somebody/something", "revision": "0" * 40}}, "not among the models whose shape is known here. Give its configuration: --model"),
        ({"adapter": {"target_modules": ["query"]}, "model": LLAMA_OF_THE_HUB}, "adapter.target_modules: the layers of llama have no 'query'"),
        ({"compute": {}}, "is not a valid manifest"),
    ],
)
def test_what_cannot_be_planned_is_said_with_what_would_help(no_account: None, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    result = run("plan", written(tmp_path, **changes))
    assert result.exit_code == 1
    assert said in " ".join(result.output.split())


def test_what_the_manifest_names_and_is_not_there_is_said(bucket: Bucket, tmp_path: Path) -> None:
    result = run("plan", written(tmp_path, model={"s3": "models/other"}))
    assert result.exit_code == 1
    assert "model.s3: nothing lies at models/other/config.json" in result.output


def test_submit_shows_the_price_before_it_sends(bucket: Bucket, tmp_path: Path) -> None:
    result = run("submit", written(tmp_path))
    assert result.exit_code == 0, result.output
    assert "Expected, by guess: " in result.output
    assert result.output.index("on spot") < result.output.index("Put to s3://data/jobs/mine.yaml")


def test_submit_sends_nothing_that_would_be_refused(bucket: Bucket, tmp_path: Path) -> None:
    bucket.stack.s3.put_object(Bucket="data", Key="models/m/config.json", Body=json.dumps(LLAMA_8B).encode())
    result = run("submit", written(tmp_path))
    assert result.exit_code == 1
    assert "Not sent, for it would be refused" in result.output
    assert "allowed: [g5.xlarge]" in result.output
    assert bucket.stack.s3.list_objects_v2(Bucket="data", Prefix="jobs/")["KeyCount"] == 0


def test_submit_goes_on_where_it_may_not_look(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.simulation.aws import aws_error

    def denied(**_: Any) -> Any:
        raise aws_error("AccessDenied", "no", "GetObject")

    monkeypatch.setattr(bucket.stack.s3, "get_object", denied)
    result = run("submit", written(tmp_path))
    assert result.exit_code == 0, result.output
    assert "Put to s3://data/jobs/mine.yaml" in result.output


def test_submit_sends_nothing_that_lies_where_no_instance_may_read_and_gives_the_command(bucket: Bucket, tmp_path: Path) -> None:
    result = run("submit", written(tmp_path, data={"train": "s3://elsewhere/t.jsonl"}))
    assert result.exit_code == 1
    assert "data.train lies in the bucket elsewhere, which this stack may not read" in result.output
    assert "sam deploy --parameter-overrides ReadBuckets=elsewhere" in result.output
    assert bucket.stack.s3.list_objects_v2(Bucket="data", Prefix="jobs/")["KeyCount"] == 0


def test_submit_knows_the_buckets_that_the_stack_was_given_to_read(bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs = [{"OutputKey": f"{name}BucketName", "OutputValue": name.lower()} for name in ("Data", "Outputs")]
    described = {"Outputs": outputs, "Parameters": [{"ParameterKey": "ReadBuckets", "ParameterValue": "shared,elsewhere"}]}
    monkeypatch.setattr(stacks, "_described", lambda session, name: described)
    monkeypatch.setattr(stacks, "find_stack", FIND_STACK)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    bucket.stack.s3.create_bucket(Bucket="elsewhere")
    bucket.stack.s3.put_object(Bucket="elsewhere", Key="t.jsonl", Body=b'{"text": "a"}\n')
    result = run("submit", written(tmp_path, data={"train": "s3://elsewhere/t.jsonl"}))
    assert result.exit_code == 0, result.output
    assert "Put to s3://data/jobs/mine.yaml" in result.output
