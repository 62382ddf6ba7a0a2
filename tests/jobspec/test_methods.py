"""Methods, adapters and their options: what goes together, what is refused and where, and what a default stands for."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from agent.orders import run_file
from jobspec.manifest import Manifest
from jobspec.methods import OPTIONS, default_learning_rate, options_of
from jobspec.problems import render_problems
from jobspec.reading import Refusal, read_manifest
from jobspec.runfile import RunFile
from jobspec.ticket import Ticket
from jobspec.wire import dump, load

AT = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
MINIMAL = (Path(__file__).resolve().parents[2] / "events/manifests/minimal.yaml").read_text()


def read(text: str) -> Manifest | Refusal:
    return read_manifest(f"{MINIMAL}\n{text}".encode())


#: (added to a good manifest, where the problem is, what is said of it)
MISFITS = [
    ("method: dpo\nkto: {beta: 0.2}", "kto", "is for `method: kto`, but the method is dpo"),
    ("grpo: {rewards: [{name: json_valid}]}", "grpo", "but the method is sft"),
    ("method: grpo", "grpo", "needs at least grpo.rewards"),
    ("method: grpo\ngrpo: {rewards: [{name: json_valid}], num_generations: 5}", "grpo.num_generations", "(5) does not divide training.global_batch_size (16)"),
    ("method: grpo\ngrpo: {rewards: [{name: json_valid}], max_completion_length: 1024}", "grpo.max_completion_length", "leaves a prompt no room"),
    ("method: grpo\ngrpo: {rewards: [{name: regex}]}", "grpo.rewards[0].pattern", "is missing: `regex` needs it"),
    ("method: grpo\ngrpo: {rewards: [{name: length}, {name: length, column: a}]}", "grpo.rewards[1].column", "is for exact_match, contains, numeric_match"),
    ("method: kto\ntraining: {micro_batch_size: 1}", "training.micro_batch_size", "must be 2 at least for kto"),
    ("method: dpo\ndpo: {label_smoothing: 0.1}", "dpo.label_smoothing", "is for `loss_type: robust`, not sigmoid"),
    ("method: reward\ntraining: {loss_on: all}", "training.loss_on", "is for `method: sft`"),
    ("adapter: {type: full, r: 8}", "adapter.r", "has no adapter"),
    ("adapter: {type: full, merge: true}", "adapter.merge", "has no adapter"),
    ("adapter: {gguf: true}", "adapter.gguf", "needs `merge: true`"),
    ("method: reward\nadapter: {merge: true, gguf: true}", "adapter.gguf", "is for models that speak"),
    ("adapter: {type: full, gguf: true}", "adapter.gguf", "has no adapter"),
    ("evaluation: {patience: 2}", "evaluation.patience", "needs evaluation.interval_steps"),
    ("evaluation: {keep_best: true}", "evaluation.keep_best", "needs evaluation.interval_steps"),
    ("adapter: {type: full}\nevaluation: {interval_steps: 5, keep_best: true}", "evaluation.keep_best", "every weight of the model twice"),
]


@pytest.mark.parametrize(("text", "where", "said"), MISFITS)
def test_choices_that_do_not_go_together_are_refused_where_they_stand(text: str, where: str, said: str) -> None:
    answer = read(text)
    assert isinstance(answer, Refusal)
    assert [problem.path for problem in answer.problems] == [where]
    assert said in render_problems(answer.problems)
    assert answer.problems[0].line is not None or where == "grpo"  # a section that is missing stands on no line


@pytest.mark.parametrize(
    "text",
    [
        "method: kto\ntraining: {micro_batch_size: 1}\nkto: {loss_type: apo_zero_unpaired}",
        "method: dpo\ndpo: {loss_type: robust, label_smoothing: 0.1}",
        "method: grpo\ngrpo: {rewards: [{name: regex, pattern: '^[0-9]+$'}, {name: length, weight: -0.5}]}",
        "adapter: {type: qlora, dora: true, rslora: true, merge: true, gguf: true}",
        "adapter: {type: full}",
        "evaluation: {interval_steps: 50, patience: 3, keep_best: true}",
    ],
)
def test_choices_that_go_together_are_taken(text: str) -> None:
    answer = read(text)
    assert isinstance(answer, Manifest), answer


def test_each_method_has_options_with_defaults_but_grpo_which_needs_rewards() -> None:
    for method in OPTIONS:
        rewards = "\ngrpo: {rewards: [{name: json_valid}]}" if method == "grpo" else ""
        answer = read(f"method: {method}{rewards}")
        assert isinstance(answer, Manifest), answer
        assert isinstance(options_of(answer), OPTIONS[method])
    sft = read("")
    assert isinstance(sft, Manifest)
    assert options_of(sft) is None


def test_a_run_file_carries_every_choice_of_the_manifest_and_survives_its_own_text() -> None:
    answer = read("method: dpo\ndpo: {beta: 0.3}\nadapter: {type: full}\nevaluation: {interval_steps: 7}")
    assert isinstance(answer, Manifest)
    ticket = Ticket(
        job_id="tale-abc123",
        name="tale",
        attempt=1,
        instance_id="i-0123456789abcdef0",
        writer="AROAEXAMPLEID:i-0123456789abcdef0",
        manifest=answer,
        data_bucket="data",
        outputs_bucket="outputs",
        deadline_at=AT,
        issued_at=AT,
    )
    run = load(RunFile, dump(run_file(ticket, Path("run"))))
    assert (run.method, run.dpo, run.adapter, run.evaluation) == ("dpo", answer.dpo, answer.adapter, answer.evaluation)
    assert run.resolved().training.learning_rate == 1e-6


@pytest.mark.parametrize("method", ["sft", *OPTIONS])
def test_an_adapter_learns_ten_times_as_fast_as_full_training_by_default(method: str) -> None:
    assert default_learning_rate(method, "lora") == pytest.approx(10 * default_learning_rate(method, "full"))
    assert default_learning_rate(method, "qlora") == default_learning_rate(method, "lora")
