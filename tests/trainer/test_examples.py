"""Every example manifest, made tiny: its method, adapter and options as they are written, few steps on few short rows."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent.orders import run_file
from jobspec.data import Data
from jobspec.manifest import Manifest
from jobspec.reading import read_manifest
from jobspec.ticket import Ticket
from jobspec.wire import dump
from tests.tiny_model import make_tiny_model, write_rows_for
from tests.trainer.rig import do_run, lines, results

pytestmark = pytest.mark.torch

INSTANCE = "i-0123456789abcdef0"
AT = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
FOLDER = Path(__file__).resolve().parents[2] / "events/manifests"
EXAMPLES = sorted(path.stem for path in FOLDER.glob("*.yaml") if path.stem != "bad")
#: What makes a run short; everything else stays as the example has it.
TINY = {"max_steps": 2, "global_batch_size": 4, "micro_batch_size": 2, "max_length": 96}


def tiny_run(manifest: Manifest, folder: Path) -> Path:
    """The run file that the agent would write for ``manifest``, cut down, with rows of its method."""
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
    )
    run = run_file(ticket, folder)
    changes: dict[str, Any] = {"training": run.training.model_copy(update=TINY)}
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


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs_to_its_end(example: str, model: Path, tmp_path: Path, four_bits_here: None) -> None:
    manifest = read_manifest((FOLDER / f"{example}.yaml").read_bytes())
    assert isinstance(manifest, Manifest), manifest
    (tmp_path / "model").symlink_to(model)
    assert do_run(tiny_run(manifest, tmp_path)) == 0, lines(tmp_path)[-1]
    found = results(tmp_path)
    assert found["steps"] == 2
    names = {path.name for path in (tmp_path / "final").iterdir()}
    weights = "model.safetensors" if manifest.adapter.type == "full" else "adapter_model.safetensors"
    assert {weights, "tokenizer.json", "chat_template.jinja", "results.json", "metrics.jsonl", "loss.png", "README.md", "tensorboard"} <= names
    assert ("merged" in names) == manifest.adapter.merge
    if manifest.method == "grpo":
        assert found["eval_loss_after"] is None
        assert found["eval_metrics_after"]["reward"] >= 0
    else:
        assert found["eval_loss_after"] is not None


def test_there_is_an_example_of_every_method_and_adapter() -> None:
    manifests = [read_manifest((FOLDER / f"{example}.yaml").read_bytes()) for example in EXAMPLES]
    assert {manifest.method for manifest in manifests if isinstance(manifest, Manifest)} == {"sft", "dpo", "kto", "orpo", "reward", "grpo"}
    assert {manifest.adapter.type for manifest in manifests if isinstance(manifest, Manifest)} == {"lora", "qlora", "full"}
