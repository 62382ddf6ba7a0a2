"""Metrics at MLflow and W&B: one run a job however many attempts, the key with nobody but the agent, and no harm to the job whatever a service does."""

import base64
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import boto3
import pytest
from pydantic import ValidationError

from agent.mlflow import MlflowRun
from agent.tracking import Job, Point, TrackingFailed
from agent.wandb_run import WandbRun
from agent.world import AgentExit
from jobspec.manifest import Manifest
from jobspec.marker import Outcome
from jobspec.tracking import ReportTo
from tests.agent.cloud import JOB, SECOND, TRACKING, Cloud, now, until
from tests.agent.conftest import Launch
from tests.agent.mlflow import API, MlflowServer, serving

KEY = "key-7f3a"
THE_JOB = Job(JOB, "demo", 1_700_000_000_000, {"method": "sft", "training.seed": "42"})


@pytest.fixture
def server() -> Iterator[MlflowServer]:
    with serving() as made:
        yield made


def keep(service: str, value: str) -> None:
    make: Any = boto3.client
    make("ssm").put_parameter(Name=f"{TRACKING}/{service}", Type="SecureString", Value=value, Overwrite=True)


def the_run(server: MlflowServer) -> Any:
    (run,) = server.runs.values()
    return run


def test_a_finished_job_is_a_finished_run_with_every_step_and_the_settings(cloud: Cloud, launch: Launch, server: MlflowServer) -> None:
    keep("mlflow", f"{server.address}/tracking {KEY}")
    cloud.ticket(manifest={"report_to": {"mlflow": "support bot"}})
    assert launch().run() is AgentExit.FINISHED
    run = the_run(server)
    assert (run.experiment, run.name, run.status) == ("support bot", "demo", "FINISHED")
    assert run.tags == {"dropforge.job_id": JOB}
    assert run.curve("train/loss") == {step: pytest.approx(1 / step) for step in range(1, 21)}
    assert set(run.curve("train/tokens_per_s").values()) == {100.0}
    assert run.params["method"] == "sft"
    assert run.params["training.max_steps"] == "20"
    assert {authorization for _, authorization in server.seen} == {f"Bearer {KEY}"}
    assert all(path.startswith(f"/tracking{API}/") for path, _ in server.seen)


def test_an_interrupted_job_goes_on_in_the_same_run(cloud: Cloud, launch: Launch, server: MlflowServer) -> None:
    keep("mlflow", server.address)
    cloud.orders(step_s=0.02, save_every=1000)
    manifest = {"report_to": {"mlflow": "e"}}
    cloud.ticket(max_steps=60, manifest=manifest | {"training": {"max_steps": 60}})
    first = launch()
    first.start()
    until(lambda: server.runs and len(the_run(server).curve("train/loss")) >= 5)
    first.imds.interrupt(30)
    assert first.join(60) is AgentExit.HANDED_OVER
    assert the_run(server).status == "RUNNING", "the job is not over"
    cloud.replacement(until_s=5, manifest=manifest | {"training": {"max_steps": 60}})
    assert launch(SECOND).run() is AgentExit.FINISHED
    run = the_run(server)
    assert run.status == "FINISHED"
    assert sorted(run.curve("train/loss")) == list(range(1, 61))


def test_a_failed_job_is_a_failed_run(cloud: Cloud, launch: Launch, server: MlflowServer) -> None:
    keep("mlflow", server.address)
    cloud.orders(fail_at=3)
    cloud.ticket(manifest={"report_to": {"mlflow": "e"}})
    launch().run()
    assert the_run(server).status == "FAILED"
    assert sorted(the_run(server).curve("train/loss")) == [1, 2, 3]


def test_a_stopped_job_is_a_killed_run(cloud: Cloud, launch: Launch, server: MlflowServer) -> None:
    keep("mlflow", server.address)
    cloud.orders(step_s=0.02)
    cloud.ticket(max_steps=5000, manifest={"report_to": {"mlflow": "e"}, "training": {"max_steps": 5000}})
    instance = launch()
    instance.start()
    until(lambda: server.runs)
    cloud.order_stop()
    instance.join(60)
    assert the_run(server).status == "KILLED"


def test_a_service_that_comes_back_is_told_what_it_missed(cloud: Cloud, launch: Launch, server: MlflowServer) -> None:
    keep("mlflow", server.address)
    server.away = True
    cloud.orders(step_s=0.02)
    cloud.ticket(max_steps=100, manifest={"report_to": {"mlflow": "e"}, "training": {"max_steps": 100}})
    instance = launch()
    instance.start()
    until(lambda: len(server.seen) >= 1)
    server.away = False
    assert instance.join(60) is AgentExit.FINISHED
    assert sorted(the_run(server).curve("train/loss")) == list(range(1, 101))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "report_to.mlflow: ParameterNotFound"),
        ("http://127.0.0.1:9", "report_to.mlflow: 127.0.0.1 was not reached: ConnectionRefusedError"),
        (f"http://example.com {KEY}", "report_to.mlflow: the parameter must hold https://HOST/PATH"),
        (KEY, "report_to.mlflow: the parameter must hold https://HOST/PATH"),
    ],
)
def test_a_job_whose_service_is_out_of_reach_succeeds_all_the_same_and_its_log_says_why(
    cloud: Cloud, launch: Launch, caplog: pytest.LogCaptureFixture, value: str | None, said: str
) -> None:
    if value is not None:
        keep("mlflow", value)
    cloud.ticket(manifest={"report_to": {"mlflow": "e"}})
    assert launch().run() is AgentExit.FINISHED
    marker = cloud.marker()
    assert marker is not None
    assert marker.outcome is Outcome.COMPLETED
    assert said in caplog.text
    assert KEY not in caplog.text


def test_a_service_that_answers_nothing_holds_a_job_up_for_seconds_and_no_longer(
    cloud: Cloud, launch: Launch, server: MlflowServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import threading

    never = threading.Event()
    monkeypatch.setattr("agent.tracking.END_S", 0.2)
    monkeypatch.setattr(server, "answer", lambda *_: never.wait(30) or (200, {}))
    keep("mlflow", server.address)
    cloud.ticket(manifest={"report_to": {"mlflow": "e"}})
    assert launch().run() is AgentExit.FINISHED
    never.set()
    assert "did not take the end of the job" in caplog.text


def test_no_key_is_where_the_trainer_can_see_it_or_in_what_is_uploaded(cloud: Cloud, launch: Launch, server: MlflowServer) -> None:
    keep("mlflow", f"{server.address} {KEY}")
    cloud.ticket(manifest={"report_to": {"mlflow": "e"}})
    instance = launch()
    instance.run()
    assert server.runs
    files = [path for path in instance.root.rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    assert not [key for key in cloud.keys() if KEY.encode() in (cloud.read(key) or b"")]
    assert KEY not in json.dumps(dict(os.environ))


def test_without_report_to_no_parameter_is_read_and_nothing_is_said(cloud: Cloud, launch: Launch, server: MlflowServer) -> None:
    keep("mlflow", server.address)
    cloud.parameters_of = lambda instance_id: pytest.fail("a parameter was asked for")
    cloud.ticket()
    assert launch().run() is AgentExit.FINISHED
    assert server.seen == []


def test_a_user_and_a_password_are_given_as_mlflow_wants_them(server: MlflowServer) -> None:
    MlflowRun(f"{server.address} me:{KEY}", "e", THE_JOB)
    assert {authorization for _, authorization in server.seen} == {f"Basic {base64.b64encode(f'me:{KEY}'.encode()).decode()}"}


def test_a_long_curve_goes_in_batches_that_mlflow_takes(server: MlflowServer) -> None:
    run = MlflowRun(server.address, "e", THE_JOB)
    run.log([Point(now(), step, {"train/loss": 1.0}) for step in range(2500)])
    assert len(the_run(server).curve("train/loss")) == 2500
    run.log([])


def test_an_answer_that_is_no_mlflows_is_said(server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "answer", lambda *_: (301, {}))
    with pytest.raises(TrackingFailed, match="answered 301 to /experiments/get-by-name"):
        MlflowRun(server.address, "e", THE_JOB)


class FakeWandb(ModuleType):
    """What their library is called with. Held to the real one by hand: docs/tracking.md says when."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.inits: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.exit_codes: list[int] = []
        self.refuses = ""

    def Settings(self, **settings: Any) -> Any:
        return SimpleNamespace(**settings)

    def init(self, **given: Any) -> Any:
        if self.refuses:
            raise RuntimeError(self.refuses)
        self.inits.append(given)
        return SimpleNamespace(log=lambda values, step: self.logged.append((step, values)), finish=lambda exit_code: self.exit_codes.append(exit_code))


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_a_job_is_a_run_of_wandb_with_its_own_id_and_without_a_look_at_machine_code_or_console(cloud: Cloud, launch: Launch, wandb: FakeWandb) -> None:
    keep("wandb", f"{KEY} https://wandb.example.com")
    cloud.ticket(manifest={"report_to": {"wandb": "team/support-bot"}})
    assert launch().run() is AgentExit.FINISHED
    (given,) = wandb.inits
    assert (given["entity"], given["project"], given["id"], given["name"], given["resume"]) == ("team", "support-bot", JOB, "demo", "allow")
    settings = given["settings"]
    assert (settings.api_key, settings.base_url, settings.console) == (KEY, "https://wandb.example.com", "off")
    assert settings.disable_git
    assert not settings.save_code
    assert [step for step, _ in wandb.logged] == list(range(1, 21))
    assert wandb.exit_codes == [0]


def test_a_project_without_an_entity_is_the_keys_owners(wandb: FakeWandb) -> None:
    WandbRun(KEY, "support-bot", THE_JOB)
    assert (wandb.inits[0]["entity"], wandb.inits[0]["project"]) == (None, "support-bot")
    assert not hasattr(wandb.inits[0]["settings"], "base_url")


def test_what_wandb_says_of_a_wrong_key_is_told_without_the_key(wandb: FakeWandb) -> None:
    wandb.refuses = f"401: {KEY} is not a key"
    with pytest.raises(TrackingFailed, match=r"wandb: RuntimeError: 401: \.\.\. is not a key"):
        WandbRun(KEY, "p", THE_JOB)


def test_an_image_without_the_library_says_how_to_build_one_with_it(
    cloud: Cloud, launch: Launch, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    keep("wandb", KEY)
    cloud.ticket(manifest={"report_to": {"wandb": "p"}})
    assert launch().run() is AgentExit.FINISHED
    assert "report_to.wandb: this image has no library wandb: build it with --build-arg TRACKING=wandb" in caplog.text


def test_the_docker_file_takes_that_build_argument() -> None:
    assert "ARG TRACKING=\n" in (Path(__file__).parents[2] / "Dockerfile.gpu").read_text()


@pytest.mark.parametrize("report_to", [{}, {"mlflow": None}, {"mlflow": ""}, {"mlflow": "a\nb"}, {"comet": "x"}, {"wandb": "x", "key": KEY}, {"mlflow": 3}])
def test_a_report_to_that_names_no_project_or_brings_a_key_is_refused(report_to: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ReportTo.model_validate(report_to)


def test_one_line_of_a_manifest_is_enough() -> None:
    job = {"name": "a", "model": {"s3": "m"}, "data": {"train": "t"}, "compute": {"gpu": {"memory_gib": 16}}, "report_to": {"mlflow": "/Shared/bot"}}
    assert Manifest.model_validate(job).report_to == ReportTo(mlflow="/Shared/bot")
