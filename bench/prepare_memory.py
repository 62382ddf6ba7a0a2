"""Peak memory and time of preparing many short rows: ``python -m bench.prepare_memory --rows 1000000``.

A tiny model's tokenizer, chat rows of about 40 tokens. Peak memory is the process's largest resident set, which counts what
is mapped from disk as well; the same for ten times as many rows shows what each row costs.
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    asked = parser.parse_args()
    sys.path[:0] = [str(ROOT), str(ROOT / "functions")]
    from tests.tiny_model import make_tiny_model
    from trainer.run import run_file
    from trainer.stop import StopSignal

    with tempfile.TemporaryDirectory(prefix="prepare-") as name:
        folder = Path(name)
        make_tiny_model(folder / "model")
        (folder / "data").mkdir()
        with (folder / "data/train.jsonl").open("w") as file:
            for at in range(asked.rows):
                turns = [{"role": "user", "content": f"What does the red river {at} do?"}, {"role": "assistant", "content": "The red river falls."}]
                file.write(json.dumps({"messages": turns}) + "\n")
        (folder / "run.json").write_text(json.dumps({"job_id": "memory", "model_reference": "local/model"}))
        before, began = _peak_mib(), time.process_time()
        code = run_file(folder / "run.json", lambda: datetime.now(UTC), time.monotonic, StopSignal(), only_prepare=True)
        took = time.process_time() - began
        size = sum(path.stat().st_size for path in (folder / "prepared").iterdir()) / 1024**2
        sys.stdout.write(f"{asked.rows} rows: peak {_peak_mib():.0f} MiB ({before:.0f} before), {took:.0f} CPU s, {size:.0f} MiB on disk\n")
    return int(code)


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    sys.exit(main())
