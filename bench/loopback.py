"""An S3 on this machine's loopback, in a process of its own, so that its work is not the client's: moto's, or ``bench.lean_s3``.

``python -m bench.loopback PORT-FILE`` is moto's process.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
PATIENCE_S = 120.0


@contextmanager
def s3_server(folder: Path, *, lean: bool = False) -> Iterator[str]:
    """The endpoint's URL; the server ends with the block. Raises SystemExit where it does not come up."""
    port_file, objects = folder / "s3-port", folder / "s3-objects"
    objects.mkdir(exist_ok=True)
    command = [sys.executable, "-m", *(["bench.lean_s3", str(port_file), str(objects)] if lean else ["bench.loopback", str(port_file)])]
    process = subprocess.Popen(command, env={**os.environ, **CREDENTIALS})  # noqa: S603 - this module itself
    try:
        end = time.monotonic() + PATIENCE_S
        while not port_file.exists():
            if process.poll() is not None or time.monotonic() > end:
                sys.exit("the loopback S3 did not come up")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port_file.read_text()}"
    finally:
        process.terminate()
        process.wait()


def main(port_file: Path) -> None:
    import logging

    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    aside = port_file.with_suffix(".new")
    aside.write_text(str(port))
    aside.replace(port_file)
    until_orphaned()


def until_orphaned() -> None:
    """A server is not left behind by a bench that was ended."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(0.5)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
