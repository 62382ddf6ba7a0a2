"""Puts ``agent/bootstrap.sh`` into the launch template's user data: ``python -m tools.embed_bootstrap``; ``--check`` only looks.

Only what lies between the two markers in ``template.yaml`` and ``region.yaml`` is written: the script without its comment lines, for EC2 takes
16 KiB of user data before base64. The stack's facts above the markers need some of it, so the script has a limit of its own.
"""

import argparse
import sys
from pathlib import Path

TEMPLATES = (Path("template.yaml"), Path("region.yaml"))
SCRIPT = Path("agent/bootstrap.sh")
BEGIN = "# >>> agent/bootstrap.sh"
END = "# <<< agent/bootstrap.sh"
#: EC2's limit (EC2 guide, "User data"), and what is left of it for the script.
USER_DATA_LIMIT_BYTES = 16 * 1024
SCRIPT_LIMIT_BYTES = 14 * 1024


class NotEmbeddable(ValueError):
    """The script cannot be put into the template; the message says why and what to do."""


def embed(template: str, script: str) -> str:
    """``template`` with ``script`` between its markers, indented as the markers are. Raises NotEmbeddable."""
    _refuse_what_would_change(script)
    script = without_comments(script)
    if len(script.encode()) > SCRIPT_LIMIT_BYTES:
        raise NotEmbeddable(f"the script has {len(script.encode())} bytes without comments, the limit is {SCRIPT_LIMIT_BYTES}: move work into the image")
    lines = template.splitlines()
    begin, end = _marker(lines, BEGIN), _marker(lines, END)
    if begin > end:
        raise NotEmbeddable(f"the marker {END!r} stands before {BEGIN!r}")
    indent = lines[begin][: -len(BEGIN)]
    body = [indent + line if line else "" for line in script.splitlines()]
    return "\n".join([*lines[: begin + 1], *body, *lines[end:]]) + "\n"


def _marker(lines: list[str], marker: str) -> int:
    found = [number for number, line in enumerate(lines) if line.strip() == marker]
    if len(found) != 1:
        raise NotEmbeddable(f"the template has {len(found)} lines {marker!r}; it needs exactly one")
    return found[0]


def without_comments(script: str) -> str:
    """``script`` without its lines that are comments only; the first says which shell it is for, and stays."""
    first, *lines = script.splitlines(keepends=True)
    return first + "".join(line for line in lines if not line.lstrip().startswith("#"))


def _refuse_what_would_change(script: str) -> None:
    """What YAML, or the loss of the comment lines, would make another script of it."""
    if not script.endswith("\n") or "\t" in script or "\r" in script or not script.isascii():
        raise NotEmbeddable("the script must be ASCII, end in a newline, and hold no tab and no carriage return")
    if BEGIN in script or END in script:
        raise NotEmbeddable("the script holds one of the template's own markers")
    if "<<" in script:
        raise NotEmbeddable("the script holds a here-document (<<), whose lines might be taken for comments: use printf")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.embed_bootstrap", description="Put agent/bootstrap.sh into template.yaml.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the two differ")
    parser.add_argument("--template", type=Path, action="append", help="template.yaml and region.yaml where none is given")
    parser.add_argument("--script", type=Path, default=SCRIPT)
    chosen = parser.parse_args(arguments)
    return max(_embed_into(template, chosen.script, check=chosen.check) for template in chosen.template or TEMPLATES)


def _embed_into(template: Path, script: Path, *, check: bool) -> int:
    try:
        before = template.read_text()
        after = embed(before, script.read_text())
    except (OSError, NotEmbeddable) as error:
        sys.stderr.write(f"embed_bootstrap: {error}\n")
        return 1
    if check and after != before:
        sys.stderr.write(f"{template} does not hold {script}: run `python -m tools.embed_bootstrap`\n")
        return 1
    if after != before:
        template.write_text(after)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
