"""What a manifest may hold at a path, in words: read off the models' JSON Schema, so that it cannot differ from them."""

from collections.abc import Iterator
from functools import cache
from typing import Any

from jobspec.base import NAME_PATTERN
from jobspec.compute import INSTANCE_TYPE_PATTERN, ZONE_PATTERN
from jobspec.data import DATA_COLUMN_PATTERN
from jobspec.manifest import Manifest
from jobspec.methods import COLUMN_PATTERN, MODULE_PATTERN, REGEX_PATTERN
from jobspec.places import COMMIT_PATTERN, HUB_FILE_PATTERN, HUB_ID_PATTERN, LOCATION_PATTERN
from jobspec.problems import Path
from jobspec.regions import REGION_PATTERN
from jobspec.schedule import CRON_PATTERN, TIMEZONE_PATTERN
from jobspec.sweep import METRIC_PATTERN
from jobspec.tracking import TITLE_PATTERN
from jobspec.units import DURATION_HELP, DURATION_PATTERN

Node = dict[str, Any]

#: Every pattern of the manifest, for people. A test holds that none is missing.
PATTERN_WORDS = {
    NAME_PATTERN: "1 to 48 lower-case letters, digits and hyphens, with no hyphen at either end",
    LOCATION_PATTERN: "s3://bucket/key, or a key in this bucket such as data/train.jsonl: letters, digits and . _ = - only, and no part that starts with a dot",
    HUB_ID_PATTERN: "a hub id such as HuggingFaceTB/SmolLM2-135M-Instruct",
    COMMIT_PATTERN: "a commit of 40 lower-case hexadecimal digits",
    HUB_FILE_PATTERN: "a file of the hub repository such as data/train.jsonl, or several as data/train-*.parquet",
    DATA_COLUMN_PATTERN: "a column's name: letters, digits, space and . _ - only, 64 at most",
    INSTANCE_TYPE_PATTERN: "an EC2 instance type such as g5.xlarge",
    ZONE_PATTERN: "an availability zone such as us-east-1a",
    REGION_PATTERN: "a region such as us-east-1",
    MODULE_PATTERN: "a module name such as q_proj",
    COLUMN_PATTERN: "the name of a row's column, such as answer: a letter, then letters, digits and _",
    REGEX_PATTERN: "a regular expression of 1 to 500 characters",
    CRON_PATTERN: "five fields - minute, hour, day, month, weekday - such as 0 3 * * mon-fri",
    TIMEZONE_PATTERN: "a time zone such as UTC or Europe/Berlin",
    METRIC_PATTERN: "a metric's name such as eval_loss",
    TITLE_PATTERN: "a project's or experiment's name such as support-bot: letters, digits, space and . _ / - only, 128 at most",
    DURATION_PATTERN: f"{DURATION_HELP}, from 1s to 90d",
}
_TIME_WORDS = "a time with its zone, such as 2026-12-24T18:00:00+01:00"


@cache
def manifest_schema() -> Node:
    """The manifest's JSON Schema, as pydantic writes it."""
    return Manifest.model_json_schema()


def node_at(path: Path) -> Node | None:
    """The schema of what stands at ``path``; None where nothing may stand."""
    node = manifest_schema()
    for part in path:
        below = next((child for choice in choices(node) if (child := _child(choice, part)) is not None), None)
        if below is None:
            return None
        node = below
    return node


def keys_at(path: Path) -> list[str]:
    """The keys that the section at ``path`` may have; empty where no section may stand."""
    node = node_at(path)
    return [key for choice in choices(node) for key in choice.get("properties", {})] if node is not None else []


def choices(node: Node) -> Iterator[Node]:
    """The alternatives of a node, references followed; ``null`` is left out."""
    if "$ref" in node:
        yield from choices(manifest_schema()["$defs"][node["$ref"].rsplit("/", 1)[-1]])
    elif "anyOf" in node:
        for each in node["anyOf"]:
            yield from choices(each)
    elif node.get("type") != "null":
        yield node


def words_at(path: Path) -> str:
    """What is allowed at ``path``; empty where nothing is."""
    node = node_at(path)
    return words(node) if node is not None else ""


def words(node: Node) -> str:
    """What a schema node allows: ``a whole number from 1 to 512``."""
    return ", or ".join(_words_of_one(choice) for choice in choices(node))


def kinds_at(path: Path) -> set[str]:
    """JSON types allowed at ``path``: string, integer, number, boolean, array, object."""
    node = node_at(path)
    return {_kind(choice) for choice in choices(node)} if node is not None else set()


def _child(node: Node, part: str | int) -> Node | None:
    found = node.get("items") if isinstance(part, int) else node.get("properties", {}).get(part, node.get("additionalProperties"))
    return found if isinstance(found, dict) else None


def _kind(node: Node) -> str:
    return str(node.get("type", "string"))


def _words_of_one(node: Node) -> str:
    if "const" in node:
        return str(node["const"])
    if "enum" in node:
        return "one of " + ", ".join(map(str, node["enum"]))
    kind = _kind(node)
    if kind in ("integer", "number"):
        return ("a whole number" if kind == "integer" else "a number") + _range(node)
    if kind == "array":
        return f"a list{_length(node)}, each {words(node['items'])}"
    if kind == "object" and isinstance(node.get("additionalProperties"), dict):
        return f"a section, its values each {words(node['additionalProperties'])}"
    if kind == "object":
        return "the keys " + ", ".join(node.get("properties", {}))
    if node.get("format") == "date-time":
        return _TIME_WORDS
    return {"boolean": "true or false"}.get(kind) or PATTERN_WORDS.get(node.get("pattern", ""), "text")


def _range(node: Node) -> str:
    above, least, most = node.get("exclusiveMinimum"), node.get("minimum"), node.get("maximum")
    if above is not None:
        return f" above {above}, {most} at most"
    return f" from {least} to {most}" if least is not None else ""


def _length(node: Node) -> str:
    least, most = node.get("minItems"), node.get("maxItems")
    return f" of {least} to {most}" if least is not None and most is not None else ""
