"""Every example manifest, made tiny: its method, adapter and options as they are written, few steps on few short rows."""

import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.orders import run_file
from agent.staging import START_FOLDER
from jobspec.chain import Start
from jobspec.children import children_of, instance_of
from jobspec.data import Data
from jobspec.manifest import Manifest
from jobspec.reading import read_manifest
from jobspec.ticket import Ticket
from jobspec.wire import dump
from tests.tiny_model import make_tiny_model, write_rows_for
from tests.trainer.rig import do_run, lines, results
from tests.trainer.test_process import start

pytestmark = pytest.mark.torch

INSTANCE = "i-0123456789abcdef0"
AT = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
FOLDER = Path(__file__).resolve().parents[2] / "events/manifests"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "bad")


def example(stem: str) -> Manifest:
    manifest = read_manifest((FOLDER / f"{stem}.yaml").read_bytes())
    assert isinstance(manifest, Manifest), manifest
    return manifest


def jobs_of(manifest: Manifest) -> list[Manifest]:
    """What runs: each job of a sweep, the one of a schedule's times, or the job itself."""
    if manifest.schedule is not None:
        manifest = instance_of(manifest, AT)
    return [child.manifest for child in children_of(manifest)] if manifest.sweep is not None else [manifest]


#: By name: every job that the examples make.
JOBS = {job.name: job for stem in EXAMPLES for job in jobs_of(example(stem))}
#: What makes a run short; everything else stays as the example has it.
TINY = {"max_steps": 2, "global_batch_size": 4, "micro_batch_size": 2, "max_length": 96}


def tiny_run(manifest: Manifest, folder: Path) -> Path:
    """The run file that the agent would write for ``manifest``, cut down, with rows of its method; its instances are processes here."""
    for name in ("train", "eval") if manifest.data.eval else ("train",):
        write_rows_for(manifest.method, folder / f"data/{name}.jsonl", n=9)
    # Where the rows lie and what their columns are called is the agent's and the preparation's matter: here they are chats, pairs, prompts.
    data = Data(train="data/train.jsonl", eval="data/eval.jsonl" if manifest.data.eval else None)
    ticket = Ticket(
        job_id="example-abc123",
        name=manifest.name,
        attempt=1,
        instance_id=INSTANCE,
        writer=f"AROAEXAMPLEID:{INSTANCE}",
        manifest=manifest.model_copy(update={"data": data}),
        data_bucket="data",
        outputs_bucket="outputs",
        deadline_at=AT,
        issued_at=AT,
        start=Start(job_id="example-abc122", use="adapter", prefix="runs/example-abc122/final/") if follows_adapter(manifest) else None,
    )
    run = run_file(ticket, folder)
    changes: dict[str, Any] = {"training": run.training.model_copy(update=TINY), "processes": manifest.compute.nodes}
    if run.grpo is not None:
        changes["grpo"] = run.grpo.model_copy(update={"num_generations": 2, "max_completion_length": 8})
    if run.evaluation.interval_steps:
        changes["evaluation"] = run.evaluation.model_copy(update={"interval_steps": 1})
    path = folder / "run.json"
    path.write_bytes(dump(run.model_copy(update=changes)))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("examples") / "model", intermediate_size=128)


def follows_adapter(manifest: Manifest) -> bool:
    return manifest.after is not None and manifest.after.use == "adapter"


def made(manifest: Manifest, model: Path, folder: Path) -> None:
    """The job's run from its start to its end; before it, that of the example that it follows."""
    folder.mkdir()
    (folder / "model").symlink_to(model)
    if follows_adapter(manifest):
        assert manifest.after is not None
        before = JOBS[manifest.after.job]
        assert before.model == manifest.model
        made(before, model, folder / "before")
        (folder / START_FOLDER).mkdir()
        for name in ("adapter_model.safetensors", "results.json"):
            shutil.copy(folder / "before/final" / name, folder / START_FOLDER / name)
    path = tiny_run(manifest, folder)
    if manifest.compute.nodes > 1:
        assert start(folder).wait(600) == 0, (folder / "trainer.log").read_text()
    else:
        assert do_run(path) == 0, lines(folder)[-1]


@pytest.mark.parametrize("name", JOBS)
def test_a_job_of_the_examples_runs_to_its_end(name: str, model: Path, tmp_path: Path, four_bits_here: None) -> None:
    manifest, folder = JOBS[name], tmp_path / "run"
    made(manifest, model, folder)
    found = results(folder)
    assert found["steps"] == 2
    names = {path.name for path in (folder / "final").iterdir()}
    weights = "model.safetensors" if manifest.adapter.type == "full" else "adapter_model.safetensors"
    assert {weights, "tokenizer.json", "chat_template.jinja", "results.json", "metrics.jsonl", "loss.png", "README.md", "tensorboard"} <= names
    assert ("merged" in names) == manifest.adapter.merge
    if manifest.method == "grpo":
        assert found["eval_loss_after"] is None
        assert found["eval_metrics_after"]["reward"] >= 0
    else:
        assert found["eval_loss_after"] is not None


def test_there_is_an_example_of_every_method_and_adapter() -> None:
    manifests = list(JOBS.values())
    assert {manifest.method for manifest in manifests} == {"sft", "dpo", "kto", "orpo", "reward", "grpo"}
    assert {manifest.adapter.type for manifest in manifests} == {"lora", "qlora", "full"}


def test_there_is_an_example_of_every_way_in_which_jobs_and_instances_belong_together() -> None:
    manifests = [example(stem) for stem in EXAMPLES]
    for has in ("after", "sweep", "schedule"):
        assert any(getattr(manifest, has) is not None for manifest in manifests), has
    assert any(manifest.compute.nodes > 1 for manifest in manifests)
    assert len(JOBS) == sum(len(jobs_of(manifest)) for manifest in manifests), "two examples of one name"
