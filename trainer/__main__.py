"""The trainer's command line: ``run`` and ``prepare`` take a run file, ``verify`` a checkpoint folder.

Exit codes of ``run`` and ``prepare`` are :class:`jobspec.runfile.ExitCode`; ``verify`` exits 0 or 1 and says why.
"""

import argparse
import os
import sys
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path

from trainer.stop import StopSignal

_PACKAGES = Path(__file__).resolve().parents[1] / "functions"
if _PACKAGES.is_dir() and str(_PACKAGES) not in sys.path:
    sys.path.insert(0, str(_PACKAGES))  # jobspec, when started from a checkout without PYTHONPATH

#: Read by the libraries when they are imported, so set before any of them is.
ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # the trainer has no network; a missing file must fail at once
    "HF_DATASETS_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRL_EXPERIMENTAL_SILENCE": "1",  # the manifest's reference says which method is
    "TOKENIZERS_PARALLELISM": "true",
    "PYTHONWARNINGS": "ignore::FutureWarning",  # for the ranks, which begin as new processes; as below for this one
    "CUBLAS_WORKSPACE_CONFIG": ":4096:8",  # cuBLAS repeats its sums bit by bit only with a fixed workspace
}


def main(arguments: list[str] | None = None) -> int:
    """Parse, prepare the process, run. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m trainer", description="Fine-tunes a language model from files to files.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help_text in (("run", "train, resume or finish what a run file asks"), ("prepare", "only check a run file's data")):
        commands.add_parser(name, help=help_text).add_argument("run_file", type=Path, metavar="RUN.json")
    commands.add_parser("verify", help="check a checkpoint folder's files against its manifest").add_argument("folder", type=Path, metavar="CHECKPOINT_DIR")
    asked = parser.parse_args(arguments)
    if asked.command == "verify":
        return _verify(asked.folder)
    stop = StopSignal()
    stop.listen()
    os.environ.update(ENVIRONMENT)
    warnings.filterwarnings("ignore", category=FutureWarning)  # between the pinned libraries; nothing a user could change
    warnings.filterwarnings("ignore", message="Could not find a config file in")  # the base model's name is not a local folder
    from trainer.run import run_file

    return int(run_file(asked.run_file, lambda: datetime.now(UTC), time.monotonic, stop, only_prepare=asked.command == "prepare"))


def _verify(folder: Path) -> int:
    from trainer.checkpoints import DamagedCheckpoint, verify

    try:
        manifest = verify(folder)
    except DamagedCheckpoint as damage:
        sys.stdout.write(f"{folder.name} is not a whole checkpoint: {damage}\n")
        return 1
    size_mib = sum(file.size for file in manifest.files) / 1024**2
    sys.stdout.write(f"{folder.name} is whole: step {manifest.step} of {manifest.total_steps}, {len(manifest.files)} files, {size_mib:.1f} MiB\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
