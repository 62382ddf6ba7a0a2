"""SAM to CloudFormation, on this machine: ``python -m tools.translate`` prints what AWS would be given, as JSON.

Linters and tests look at the translated form, because roles, permissions and rules that SAM writes are only there.
No network and no account: samtranslator asks AWS only for managed policies that are named without their ARN, and none is.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import boto3
import yaml
from samtranslator.model.exceptions import InvalidDocumentException  # type: ignore[import-untyped]  # the package ships no types
from samtranslator.parser.parser import Parser  # type: ignore[import-untyped]  # the package ships no types
from samtranslator.translator.translator import Translator  # type: ignore[import-untyped]  # the package ships no types
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]  # the package ships no types

TEMPLATE = Path("template.yaml")
#: samtranslator puts the code's address into the template as it is; what deploys the result puts its own there.
CODE_PLACEHOLDER = "s3://code-bucket/functions.zip"
#: samtranslator looks up the partition by region, nothing else; the template itself holds no region.
_REGION = "us-east-1"

Template = dict[str, Any]


class NotTranslatable(ValueError):
    """The template is not one that SAM can translate; the message is SAM's own."""


def read(path: Path = TEMPLATE) -> Template:
    """The template with ``!Ref`` and its kin in their long form. Raises NotTranslatable, with file, line and column, and OSError."""
    try:
        plain: Template = yaml_parse(path.read_text())
    except yaml.YAMLError as error:
        raise NotTranslatable(f"{path}: {error}") from error
    return plain


def translate(path: Path = TEMPLATE, *, code_uri: str = CODE_PLACEHOLDER) -> Template:
    """The CloudFormation template that SAM makes of the one at ``path``, every function's code at ``code_uri``.

    Larger than CloudFormation takes in a request (51,200 bytes), so deploy it by ``TemplateURL``. Raises NotTranslatable and OSError.
    """
    template = read(path)
    template.setdefault("Globals", {}).setdefault("Function", {})["CodeUri"] = code_uri
    session = boto3.Session(region_name=_REGION, aws_access_key_id="none", aws_secret_access_key="none")  # noqa: S106 - no secret: it keeps boto3 from looking for one
    try:
        translated: Template = Translator({}, Parser(), boto_session=session).translate(template, parameter_values={})
    except InvalidDocumentException as invalid:
        causes = "; ".join(str(cause.message) for cause in invalid.causes)
        raise NotTranslatable(f"{path}: {causes}") from invalid
    return translated


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
