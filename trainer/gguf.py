"""The merged model as one file for llama.cpp, by llama.cpp's own converter, where the image holds it. No torch here: the converter is another process.

Its command line (``convert_hf_to_gguf.py MODEL_DIR --outfile FILE --outtype auto``; auto keeps 16 bits as they are) is that which
github.com/ggml-org/llama.cpp documents, 2026-11; the program itself was not run here.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from jobspec.marker import FailureCode
from jobspec.runfile import RunFile
from trainer.failures import TrainerFailure

CONVERTER_NAME = "convert_hf_to_gguf.py"
#: Names the converter where it is not on PATH.
CONVERTER_VARIABLE = "DROPFORGE_GGUF_CONVERTER"
GGUF_NAME = "model.gguf"
#: What every GGUF file begins with (ggml-org/ggml, docs/gguf.md).
MAGIC = b"GGUF"
LIMIT_S = 2 * 3600
_SHOWN = 500


def converter() -> list[str] | None:
    """The command that converts, or None where the image has none."""
    found = os.environ.get(CONVERTER_VARIABLE) or shutil.which(CONVERTER_NAME)
    if found is None or not Path(found).is_file():
        return None
    return [found] if os.access(found, os.X_OK) else [sys.executable, found]


def check_converter(run: RunFile) -> None:
    """Before anything is trained. Raises TrainerFailure where a GGUF file is asked for that this image cannot make."""
    if run.adapter.gguf and converter() is None:
        raise TrainerFailure(
            FailureCode.TRAINER_ERROR,
            f"adapter.gguf needs llama.cpp's {CONVERTER_NAME}, which this image does not hold. Build an image with it (docs/training.md, GGUF, has the "
            "Dockerfile), or leave adapter.gguf out and convert final/merged/ elsewhere.",
        )


def convert(merged: Path, target: Path) -> str:
    """Write the model of folder ``merged`` to ``target``. Returns why there is no file, where there is none: a trained model is not lost to that."""
    command = converter()
    if command is None:
        return f"{CONVERTER_NAME} is gone"
    arguments = [str(merged), "--outfile", str(target), "--outtype", "auto"]
    try:
        done = subprocess.run([*command, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT_S, check=False)  # noqa: S603 - the image's own program
    except (OSError, subprocess.TimeoutExpired) as error:
        target.unlink(missing_ok=True)
        return f"{CONVERTER_NAME} did not run to its end: {error}"[:_SHOWN]
    if done.returncode == 0 and _is_gguf(target):
        return ""
    target.unlink(missing_ok=True)
    said = (done.stderr or done.stdout).decode(errors="replace").strip()[-_SHOWN:]
    return f"{CONVERTER_NAME} ended with exit code {done.returncode} and no GGUF file: {said}"


def _is_gguf(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC
