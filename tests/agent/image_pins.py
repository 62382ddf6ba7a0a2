"""The pins of both images: what ``requirements/image.in`` (or ``agent.in``) names and all it needs, at the versions of this environment.

``python tests/agent/image_pins.py image > requirements/image.txt``, and the same with ``agent``. So the images hold the versions that the tests ran with.
What only a GPU build of torch needs (``nvidia-*``, ``triton``) is pinned by torch's own wheel and not listed.
"""

import re
import sys
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REQUIREMENTS = Path(__file__).parents[2] / "requirements"
HEADS = {
    "image": "# Pins of the image; made from image.in, see there. No hashes: torch's wheels differ by machine, and CI attests the image itself.\n",
    "agent": "# Pins of the agent's own image; made from agent.in, see there. No hashes: as in image.txt, of which these are a part.\n",
}
#: `pip freeze` leaves it out too: any version does, and every environment has its own.
UNPINNED = {"setuptools"}
_NAME = re.compile(r"^([A-Za-z0-9._-]+)")


def named(path: Path) -> list[str]:
    """The package names of a requirements file, without comments and includes."""
    return [found[1] for line in path.read_text().splitlines() if (found := _NAME.match(line))]


def closure(names: list[str]) -> dict[str, str]:
    """Canonical name to version of ``names`` and everything that they need here, extras included."""
    pins: dict[str, str] = {}
    waiting = [(name, "") for name in names]
    seen = set()
    while waiting:
        name, extra = waiting.pop()
        key = (canonicalize_name(name), extra)
        if key in seen:
            continue
        seen.add(key)
        found = distribution(name)
        # A local build tag (+cpu) names another index's file.
        pins[key[0]] = found.version.split("+")[0]
        for text in found.requires or []:
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                waiting += [(need.name, one) for one in ("", *sorted(need.extras))]
    return pins


def pins_text(which: str) -> str:
    pins = closure(named(REQUIREMENTS / f"{which}.in"))
    return HEADS[which] + "".join(f"{name}=={version}\n" for name, version in sorted(pins.items()) if name not in UNPINNED)


if __name__ == "__main__":
    sys.stdout.write(pins_text(sys.argv[1]))
