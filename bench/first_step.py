"""From a warm image to the first step: ``python -m bench.first_step``. Beside it the floor: one plain Python that does as much of it as it must.

The real agent (``python -m agent``) on a folder, its ticket, model and rows on an S3 on loopback; the trainer that it asks for is the real one
(``python -m trainer``). So it is our own share of a start: no EC2, no image, no network. The stages are those of the heartbeat, as the receipt
tells them. The floor imports torch, transformers, peft and trl, reads the same rows, loads the same model, makes the same adapter and takes one
step; nothing is staged, checked, measured or prepared. Without ``--model`` a Llama is made from a config (random weights).

``--pull-s N --model-s M`` plays a pull of the training image and a transfer of the model that take so long, once one after the other (as where the
agent comes with the training image) and once side by side (docs/adr/0020), beside the least: the longer of the two, and a start without either.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3

from agent.control import write_whole
from agent.image import PULLING, own_build
from agent.settings import Folders
from bench import loopback, machine
from bench.packing import make_model, write_rows
from jobspec.heartbeat import Heartbeat, Phase
from jobspec.keys import heartbeat_key
from jobspec.stages import in_order
from jobspec.wire import load
from tests.agent.cloud import DATA, FIRST, JOB, OUTPUTS, ROLE, Cloud, TrainerHost, writer
from tests.imds import FakeImds

ROOT = Path(__file__).resolve().parents[1]
TRAINING = {"global_batch_size": 4, "micro_batch_size": 4, "max_length": 256, "gradient_checkpointing": False}
#: The goal of issue 8 for an adapter job on a warm image.
GOAL_S = 15.0
PATIENCE_S = 900.0


@dataclass(frozen=True, slots=True)
class Start:
    """One start. Seconds: until the first step's end, and by stage."""

    whole_s: float
    stages_s: dict[str, float]


@dataclass(frozen=True, slots=True)
class Played:
    """Seconds of the training image's pull and of the model's transfer; ``beside``: both at the same time."""

    pull_s: float
    model_s: float
    beside: bool

    def pull(self, folders: Folders) -> float:
        """Does bootstrap.sh's part; gives the seconds that the agent's start waited for it."""
        if not self.beside:
            time.sleep(self.pull_s)
            return self.pull_s
        write_whole(folders.control / "image", PULLING.encode())
        threading.Timer(self.pull_s, write_whole, (folders.control / "image", own_build().encode())).start()
        return 0.0


#: The agent, whose model takes so many seconds more to come.
SLOW_MODEL = """
import sys, time
from agent import __main__, store
download, left_s = store.Store.download, [float(sys.argv.pop())]
def slowly(self, bucket, key, *others):
    if key.endswith(".safetensors") and left_s:
        time.sleep(left_s.pop())
    return download(self, bucket, key, *others)
store.Store.download = slowly
__main__.main()
"""


class RealTrainer(TrainerHost):
    """Runs the trainer itself where the tests run a fake one."""

    def _serve(self) -> int:
        self.starts += 1
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "functions")])}
        with (self.folders.logs / "trainer.log").open("ab") as log:
            command = [sys.executable, "-m", "trainer", "run", str(self.folders.run / "run.json")]
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)  # noqa: S603 - our own interpreter
            while self.process.poll() is None:
                if self.over.is_set():
                    self.process.kill()
                time.sleep(0.05)
        return self.process.returncode


def start_once(cloud: Cloud, endpoint: str, root: Path, played: Played | None = None) -> Start:
    """A new instance's folder, its agent, and the wait for its end. Raises SystemExit with the logs' ends where the job does not succeed."""
    for key in [*cloud.keys("")]:
        cloud.s3.delete_object(Bucket=OUTPUTS, Key=key)
    folders = Folders(root)
    for folder in (folders.run, folders.control, folders.logs, folders.incoming):
        folder.mkdir(parents=True)
    cloud.ticket(max_steps=2, manifest={"training": {**TRAINING, "max_steps": 2}, "adapter": {"r": 8, "alpha": 16}})
    host = RealTrainer(folders)
    host.start()
    with FakeImds(FIRST) as imds, (folders.logs / "agent.log").open("wb") as log:
        environment = {
            **os.environ,
            **loopback.CREDENTIALS,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "functions")]),
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.endpoint,
            "DROPFORGE_DATA_BUCKET": DATA,
            "DROPFORGE_OUTPUTS_BUCKET": OUTPUTS,
            "DROPFORGE_ROLE_ID": ROLE,
        }
        began = time.time()
        folders.stages.write_text(f"0 {played.pull(folders) if played else 0:.0f}\n")
        agent = ["-c", SLOW_MODEL, str(root), str(played.model_s)] if played else ["-m", "agent", str(root)]
        code = subprocess.call([sys.executable, *agent], cwd=ROOT, env=environment, stdout=log, stderr=log, timeout=PATIENCE_S)  # noqa: S603 - our own interpreter
    host.over.set()
    host.join()
    body = cloud.read(heartbeat_key(JOB, writer(FIRST)))
    beat = load(Heartbeat, body) if body is not None else None
    if code or beat is None or beat.phase is not Phase.FINISHED or beat.first_step_at is None or cloud.marker() is None:
        logs = "\n".join(path.read_text()[-3000:] for path in sorted(folders.logs.glob("*.log")))
        sys.exit(f"the agent exited {code}, nothing is reported:\n{logs}")
    return Start(beat.first_step_at.timestamp() - began, in_order(beat.stages_s))


FLOOR = """
import json, sys, time
began = time.time()
import torch
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import SFTTrainer
from datasets import Dataset
imported = time.time()
folder, rows = sys.argv[1:3]
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
data = Dataset.from_list([json.loads(line) for line in open(rows)])
class Watch(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        print(json.dumps({"import": imported - began, "at": time.time()}), flush=True)
settings = SFTConfig(output_dir=sys.argv[3], max_steps=1, per_device_train_batch_size=4, max_length=256, use_cpu=not torch.cuda.is_available(),
    bf16=False, gradient_checkpointing=False, save_strategy="no", report_to=[], disable_tqdm=True)
adapter = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules="all-linear")
trainer = SFTTrainer(model=model, args=settings, train_dataset=data, processing_class=tokenizer, peft_config=adapter)
trainer.add_callback(Watch())
trainer.train()
"""


def floor_once(model: Path, rows: Path, out: Path) -> Start:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true", "HF_HOME": str(out / "home")}
    began = time.time()
    command = [sys.executable, "-W", "ignore", "-c", FLOOR, str(model), str(rows), str(out)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 - our own interpreter
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"import"')]
    if done.returncode or len(lines) != 1:
        sys.exit(f"the floor failed, nothing is reported:\n{done.stderr[-3000:]}")
    told: dict[str, Any] = json.loads(lines[0])
    return Start(told["at"] - began, {"import": told["import"]})


def table(starts: list[Start], floors: list[Start]) -> str:
    """Medians with the least and the most, in seconds."""
    lines = ["| stage | seconds: median (least to most) |", "|---|---|"]
    for name in starts[0].stages_s:
        lines.append(f"| {name} | {machine.spread(one.stages_s.get(name, 0.0) for one in starts)} |")
    whole, floor = ([one.whole_s for one in found] for found in (starts, floors))
    lines.append(f"| agent's start to the first step's end | {machine.spread(whole)} |")
    lines.append(f"| floor: one plain Python, {machine.spread(one.stages_s['import'] for one in floors)} of it imports | {machine.spread(floor)} |")
    ratio = statistics.median(whole) / statistics.median(floor)
    met = "met" if statistics.median(whole) <= GOAL_S else "missed"
    return "\n".join([*lines, f"| ratio | {ratio:.2f}; the goal of {GOAL_S:.0f} s is {met} on this machine |"])


def beside_table(plain: list[Start], after_it: list[Start], beside: list[Start], played: Played) -> str:
    """Medians with the least and the most, in seconds, of the stages that the order changes and of the whole."""
    lines = ["| seconds: median (least to most) | one after the other | side by side |", "|---|---|---|"]
    for name in ("pull", "stage_model"):
        lines.append(f"| {name} | " + " | ".join(machine.spread(one.stages_s.get(name, 0.0) for one in found) for found in (after_it, beside)) + " |")
    lines.append(
        "| order of the pull to the first step's end | " + " | ".join(machine.spread(one.whole_s for one in found) for found in (after_it, beside)) + " |"
    )
    least = max(played.pull_s, played.model_s)
    lines.append(f"| floor: the longer one, {least:g}, and a start without either | | {machine.spread(least + one.whole_s for one in plain)} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5, help="starts of each kind that count (default: 5); one more of each warms the disk")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--model", type=Path, help="a folder with a model, in place of a made one")
    parser.add_argument("--pull-s", type=float, default=0.0, help="play a pull of the training image of so many seconds")
    parser.add_argument("--model-s", type=float, default=0.0, help="with --pull-s: play a transfer of the model of so many seconds")
    parser.add_argument("--trainer-log", action="store_true", help="print the last trainer's log")
    asked = parser.parse_args()
    os.environ.update(loopback.CREDENTIALS)
    with tempfile.TemporaryDirectory(prefix="bench-first-step-") as name, loopback.s3_server(Path(name)) as endpoint:
        base = Path(name)
        model = asked.model or base / "model"
        if asked.model is None:
            make_model(model, asked.hidden, asked.layers)
        write_rows(base / "rows.jsonl", asked.rows, 60)
        make: Any = boto3.client
        cloud = Cloud(make("s3", endpoint_url=endpoint))
        for path in sorted(model.iterdir()):
            cloud.s3.upload_file(str(path), DATA, f"models/tiny/{path.name}")
        cloud.put("data/rows.jsonl", (base / "rows.jsonl").read_bytes())
        starts, floors, after_it, beside = [], [], [], []
        ways = [(Played(asked.pull_s, asked.model_s, together), found) for together, found in ((False, after_it), (True, beside))]
        for number in range(asked.times + 1):
            starts.append(start_once(cloud, endpoint, base / f"instance-{number}"))
            if asked.pull_s:
                for played, found in ways:
                    found.append(start_once(cloud, endpoint, base / f"instance-{number}-{played.beside}", played))
            else:
                floors.append(floor_once(model, base / "rows.jsonl", base / f"floor-{number}"))
        if asked.trainer_log:
            sys.stderr.write((base / f"instance-{asked.times}/logs/trainer.log").read_text())
    size_mb = "made" if asked.model is None else str(asked.model.name)
    sys.stdout.write(f"{machine.told('torch', 'transformers', 'trl', 'peft', 'boto3')}\nmodel {size_mb}, {asked.rows} rows, {asked.times} starts\n\n")
    sys.stdout.write((beside_table(starts[1:], after_it[1:], beside[1:], ways[0][0]) if asked.pull_s else table(starts[1:], floors[1:])) + "\n")
    sys.stdout.write(f"\nmeasured at {datetime.now().astimezone():%Y-%m-%d %H:%M %Z}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
