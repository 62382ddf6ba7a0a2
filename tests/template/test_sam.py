"""sam as a person uses it, on the unchanged template: validate, build, deploy, deploy again, delete. The local cloud stands in for AWS.

Needs ``.venv-sam`` (``make lint`` makes it, and CI runs that first) and the functions' own Python 3.13, which ``sam build`` looks for on
PATH. The tests of this file are one story, in order. What only AWS can show is left: the transform there, and rights.
"""

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dropforge.local import cloud as clouds
from dropforge.local import deploy
from dropforge.local.state import CloudState
from tests.local.conftest import TEMPLATE as STANDIN
from tests.local.conftest import free_port, needs_environments
from tests.template.stack import ROOT, Stack

pytestmark = pytest.mark.local_cloud

SAM = ROOT / ".venv-sam/bin/sam"
STACK = "sam-story"
#: Lambda's quota for code and layers, unpacked (Lambda guide, "Lambda quotas").
UNPACKED_LIMIT_MIB = 250


def _runtime_folder() -> Path | None:
    """Where the interpreter of the functions' runtime itself is; a version manager's shim will not do for SAM."""
    python = ROOT / ".venv-lambda/bin/python"
    if not python.exists():
        return None
    script = "import sys; print(sys.base_prefix, 'python%d.%d' % sys.version_info[:2])"
    prefix, name = subprocess.run([str(python), "-c", script], capture_output=True, text=True, check=True).stdout.split()
    folder = Path(prefix) / "bin"
    return folder if name == clouds.LAMBDA_RUNTIME and (folder / name).exists() else None


def sam(*words: str, cloud: CloudState | None = None) -> subprocess.CompletedProcess[str]:
    """Runs sam in the repository; against the cloud, where one is given."""
    if not SAM.exists():
        pytest.skip("no .venv-sam: `make lint` makes it; sam itself is not tested here")
    folder = _runtime_folder()
    if folder is None:
        pytest.skip(f"no {clouds.LAMBDA_RUNTIME} (.venv-lambda is made with it where there is one); `sam build` is not tested here")
    environment = {**os.environ, "SAM_CLI_TELEMETRY": "0", "PATH": f"{folder}:{os.environ['PATH']}", **(cloud.environment if cloud else {})}
    return subprocess.run([str(SAM), *words], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=1200, check=False)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that `sam build` made."""
    folder = tmp_path_factory.mktemp("sam")
    done = sam("build", "--build-dir", str(folder / "build"), "--cache-dir", str(folder / "cache"))
    assert done.returncode == 0, done.stderr[-3000:]
    yield folder / "build"
    # Every function has its own copy: half a gigabyte.
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def cloud(build: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudState]:
    """A local cloud with a small stack of its own in it; ours is sam's to deploy."""
    needs_environments()
    home = tmp_path_factory.mktemp("sam-cloud")
    try:
        yield clouds.up(clouds.Plan(home, STANDIN, stack="standin", port=free_port(), notice_s=2.0, minute_s=3600, stop_grace_s=1.0))
    finally:
        clouds.down(home)


def deployed(cloud: CloudState, build: Path, **parameters: str) -> subprocess.CompletedProcess[str]:
    given = [f"{name}={value}" for name, value in parameters.items()]
    words = ["--template-file", str(build / "template.yaml"), "--config-file", str(ROOT / "samconfig.toml"), "--stack-name", STACK]
    return sam("deploy", *words, "--no-confirm-changeset", "--no-progressbar", "--parameter-overrides", *given, cloud=cloud)


def stack_of(cloud: CloudState) -> dict[str, Any]:
    return dict(deploy.client_of(cloud, "cloudformation").describe_stacks(StackName=STACK)["Stacks"][0])


def outputs_of(cloud: CloudState) -> dict[str, str]:
    return {output["OutputKey"]: output["OutputValue"] for output in stack_of(cloud)["Outputs"]}


def setting_of(cloud: CloudState, name: str) -> str:
    facts = deploy.client_of(cloud, "lambda").get_function_configuration(FunctionName=outputs_of(cloud)["ReconcileFunctionName"])
    return str(facts["Environment"]["Variables"][name])


def test_the_template_is_valid_as_it_is() -> None:
    done = sam("validate", "--lint", "--region", "us-east-1")
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_bundle_holds_our_packages_their_requirements_and_nothing_else(build: Path) -> None:
    functions = sorted(folder for folder in build.iterdir() if folder.is_dir())
    assert [folder.name for folder in functions] == sorted(Stack().of_type("AWS::Lambda::Function"))
    first = functions[0]
    installed = set()
    for record in first.glob("*.dist-info/RECORD"):
        installed |= {line.partition("/")[0].partition(",")[0] for line in record.read_text().splitlines()}
    ours = {path.name for path in first.iterdir()} - installed - {path.name for path in first.glob("*.data")}
    assert ours == {"jobspec", "planning", "pages", "control_plane", "requirements.txt"}
    pins = {line.split("==")[0].partition("[")[0] for line in (ROOT / "functions/requirements.txt").read_text().splitlines() if "==" in line}
    packages = {path.name.removesuffix(".dist-info").rpartition("-")[0] for path in first.glob("*.dist-info")}
    assert {name.lower().replace("-", "_") for name in pins} == {name.lower().replace("-", "_") for name in packages}
    files = [{path.relative_to(folder): path.stat().st_size for path in folder.rglob("*") if path.is_file()} for folder in functions]
    assert all(each == files[0] for each in files)
    size_mib = sum(files[0].values()) / 2**20
    print(f"bundle: {size_mib:.1f} MiB unpacked, {len(files[0])} files, one for all {len(functions)} functions")
    assert size_mib < UNPACKED_LIMIT_MIB / 2


def test_a_build_is_made_to_start_sooner(build: Path) -> None:
    python = _runtime_folder()
    assert python is not None
    done = subprocess.run([str(python / clouds.LAMBDA_RUNTIME), "tools/bundle.py", str(build)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("SubmitFunction", "CurfewFunction"):
        compiled = {path.parent.parent.relative_to(build / name).as_posix() for path in (build / name).rglob("__pycache__/*.cpython-313.pyc")}
        assert {".", "control_plane/handlers", "jobspec", "pydantic/_internal", "pydantic_core", "yaml"} <= compiled
    size_mb = sum(path.stat().st_size for path in (build / "SubmitFunction").rglob("*") if path.is_file()) / 1e6
    print(f"bundle as deployed: {size_mb:.1f} MB unpacked")


def test_compiled_packages_are_for_the_machine_that_the_functions_run_on(build: Path) -> None:
    modules = [path.name for path in (build / "SubmitFunction").rglob("*.so")]
    assert modules
    assert [name for name in modules if "cpython-313-aarch64-linux-gnu" not in name] == []


def test_it_is_deployed(cloud: CloudState, build: Path) -> None:
    done = deployed(cloud, build, NotificationEmail="you@example.com", HeartbeatSeconds="2")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert stack_of(cloud)["StackStatus"] == "CREATE_COMPLETE"


def invoked(cloud: CloudState, function: str, event: bytes) -> dict[str, Any]:
    """The function's answer to an event; fails where it failed."""
    answer = deploy.client_of(cloud, "lambda").invoke(FunctionName=outputs_of(cloud)[f"{function}Name"], Payload=event)
    said: dict[str, Any] = json.loads(answer["Payload"].read())
    assert "FunctionError" not in answer, said
    return said


def test_every_sample_event_is_accepted_by_its_function(cloud: CloudState) -> None:
    rows = re.findall(r"^\| (`[^|]*\.json`) \| `(\w+)` \|", (ROOT / "events/README.md").read_text(), re.MULTILINE)
    samples = {file: function for files, function in rows for file in re.findall(r"`([\w-]+\.json)`", files)}
    assert samples.keys() == {path.name for path in (ROOT / "events").glob("*.json")}
    outcomes = {file: invoked(cloud, function, (ROOT / "events" / file).read_bytes())["outcome"] for file, function in samples.items()}
    # Other buckets, instances and projects are named in them: not ours is a right answer.
    assert set(outcomes.values()) <= {"done", "ignored"}, outcomes
    assert {outcomes["tick.json"], outcomes["curfew.json"]} == {"done"}


@pytest.mark.parametrize(
    ("words", "function", "outcome"),
    [
        (("cloudwatch", "scheduled-event"), "ReconcileFunction", "done"),
        # A mail that cannot be read is told all the same, as an alert of an unknown kind.
        (("sns", "notification"), "BudgetRelayFunction", "done"),
        (("sns", "notification"), "PublishLedgerFunction", "ignored"),
    ],
)
def test_an_event_that_sam_generates_is_accepted(cloud: CloudState, words: tuple[str, ...], function: str, outcome: str) -> None:
    made = sam("local", "generate-event", *words)
    assert made.returncode == 0, made.stderr
    assert invoked(cloud, function, made.stdout.encode())["outcome"] == outcome


def test_the_same_again_changes_nothing_and_is_no_failure(cloud: CloudState, build: Path) -> None:
    before = outputs_of(cloud)
    done = deployed(cloud, build, NotificationEmail="you@example.com", HeartbeatSeconds="2")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert outputs_of(cloud) == before


def test_a_changed_parameter_reaches_the_functions_and_what_was_stored_stays(cloud: CloudState, build: Path) -> None:
    before, s3 = outputs_of(cloud), deploy.client_of(cloud, "s3")
    s3.put_object(Bucket=before["DataBucketName"], Key="data/kept", Body=b"kept")
    assert setting_of(cloud, "MAX_CONCURRENT_JOBS") == "20"
    done = deployed(cloud, build, NotificationEmail="you@example.com", HeartbeatSeconds="2", MaxConcurrentJobs="7")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert (stack_of(cloud)["StackStatus"], outputs_of(cloud)) == ("UPDATE_COMPLETE", before)
    assert setting_of(cloud, "MAX_CONCURRENT_JOBS") == "7"
    assert s3.get_object(Bucket=before["DataBucketName"], Key="data/kept")["Body"].read() == b"kept"


def test_sam_delete_leaves_the_work_and_nothing_that_runs(cloud: CloudState) -> None:
    before = outputs_of(cloud)
    done = sam("delete", "--stack-name", STACK, "--no-prompts", "--region", "us-east-1", cloud=cloud)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    names = [function["FunctionName"] for function in deploy.client_of(cloud, "lambda").list_functions()["Functions"]]
    assert [name for name in names if name.startswith(f"{STACK}-")] == []
    assert deploy.client_of(cloud, "s3").get_object(Bucket=before["DataBucketName"], Key="data/kept")["Body"].read() == b"kept"
    assert deploy.client_of(cloud, "dynamodb").describe_table(TableName=before["JobTableName"])["Table"]["TableStatus"] == "ACTIVE"
    assert deploy.client_of(cloud, "ecr").describe_repositories()["repositories"]


@pytest.mark.parametrize("environment", ["default", "prod"])
def test_the_deploy_settings_are_sensible_and_name_only_what_the_template_takes(environment: str) -> None:
    settings = tomllib.loads((ROOT / "samconfig.toml").read_text())[environment]
    asked = settings["deploy"]["parameters"]
    assert asked["confirm_changeset"]
    assert asked["capabilities"] == "CAPABILITY_IAM"
    parameters = Stack().template["Parameters"]
    given = dict(text.split("=", 1) for text in asked.get("parameter_overrides", []))
    assert all(str(value) in map(str, parameters[name]["AllowedValues"]) for name, value in given.items())
    assert given == ({"DeletionProtection": "true", "LogRetentionDays": "180", "BudgetScope": "project"} if environment == "prod" else {})
    assert settings["global"]["parameters"]["stack_name"] == ("dropforge-prod" if environment == "prod" else "dropforge")
