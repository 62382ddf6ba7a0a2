"""One target under libFuzzer (atheris), in a process of its own, which libFuzzer ends: ``python -m tests.fuzz.engine TARGET OPTIONS FOLDERS``."""

import sys
import zlib
from collections.abc import Callable

import atheris

with atheris.instrument_imports(include=["jobspec", "control_plane"]):
    from tests.fuzz.targets import TARGETS, Target

#: What a reader said becomes one of so many branches, so that libFuzzer keeps an input that brought a new answer.
ANSWERS = 512


def _branch(number: int) -> Callable[[], int]:
    """A function of its own code, so that calling it is an edge of its own."""
    made: dict[str, Callable[[], int]] = {}
    exec(f"def answer_{number}():\n    return {number}", made)
    return atheris.instrument_func(made[f"answer_{number}"])


def watched(target: Target) -> Callable[[bytes], None]:
    branches = [_branch(number) for number in range(ANSWERS)]

    def run(body: bytes) -> None:
        branches[zlib.crc32(target(body).encode("utf-8", "replace")) % ANSWERS]()

    return run


def main() -> None:
    name, *options = sys.argv[1:]
    atheris.Setup([sys.argv[0], *options], watched(TARGETS[name]))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
