"""SAM to CloudFormation on this machine, for the local cloud, linters and tests: what CloudFormation's transform would make.

The translation is AWS's own (aws-sam-translator). No network and no account: it asks AWS only for managed policies that are
named without their ARN, and none is; the session below keeps boto3 from looking for credentials.
"""

import copy
from pathlib import Path
from typing import Any

import boto3
import yaml
from samtranslator.model.exceptions import InvalidDocumentException  # type: ignore[import-untyped]  # the package ships no types
from samtranslator.parser.parser import Parser  # type: ignore[import-untyped]  # the package ships no types
from samtranslator.translator.translator import Translator  # type: ignore[import-untyped]  # the package ships no types
from samtranslator.yaml_helper import yaml_parse  # type: ignore[import-untyped]  # the package ships no types

#: samtranslator looks up the partition by region, nothing else; the template itself holds no region.
_REGION = "us-east-1"

Template = dict[str, Any]


class NotTranslatable(ValueError):
    """The template is not one that SAM can translate; the message is SAM's own."""


def read(path: Path) -> Template:
    """The template with ``!Ref`` and its kin in their long form. Raises NotTranslatable, with file, line and column, and OSError."""
    try:
        plain: Template = yaml_parse(path.read_text())
    except yaml.YAMLError as error:
        raise NotTranslatable(f"{path}: {error}") from error
    return plain


def translated(template: Template, region: str = _REGION) -> Template:
    """The CloudFormation template that SAM makes of this one, which stays as it is. Raises NotTranslatable.

    Larger than CloudFormation takes in a request (51,200 bytes), so deploy it by ``TemplateURL``.
    """
    session = boto3.Session(region_name=region, aws_access_key_id="none", aws_secret_access_key="none")  # noqa: S106 - no secret: it keeps boto3 from looking for one
    try:
        result: Template = Translator({}, Parser(), boto_session=session).translate(copy.deepcopy(template), parameter_values={})
    except InvalidDocumentException as invalid:
        raise NotTranslatable("; ".join(str(cause.message) for cause in invalid.causes)) from invalid
    return result
