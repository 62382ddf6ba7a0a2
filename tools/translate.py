"""SAM to CloudFormation, on this machine: ``python -m tools.translate`` prints what AWS would be given, as JSON.

Linters and tests look at the translated form, because roles, permissions and rules that SAM writes are only there.
"""

import argparse
import json
import sys
from pathlib import Path

from dropforge.translation import NotTranslatable, Template, read, translated

TEMPLATE = Path("template.yaml")
#: SAM puts the code's address into the template as it is; what deploys the result puts its own there.
CODE_PLACEHOLDER = "s3://code-bucket/functions.zip"


def translate(path: Path = TEMPLATE, *, code_uri: str = CODE_PLACEHOLDER) -> Template:
    """The CloudFormation template that SAM makes of the one at ``path``, every function's code at ``code_uri``. Raises NotTranslatable and OSError."""
    template = read(path)
    template.setdefault("Globals", {}).setdefault("Function", {})["CodeUri"] = code_uri
    try:
        return translated(template)
    except NotTranslatable as error:
        raise NotTranslatable(f"{path}: {error}") from error


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.translate", description="Print template.yaml as plain CloudFormation JSON.")
    parser.add_argument("template", nargs="?", type=Path, default=TEMPLATE)
    chosen = parser.parse_args(arguments)
    try:
        json.dump(translate(chosen.template), sys.stdout, indent=1)
    except (NotTranslatable, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write("\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
