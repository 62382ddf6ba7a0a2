"""``python -m tools.schema [--check]``: JSON Schemas (docs/schema/) and the manifest's reference (docs/manifest.md), from the models.

``--check`` writes nothing and fails where a committed file is not what the models say. A schema has no ``$id``, so that it works
wherever the file lies. A manifest's schema is of what people write; the others' are of what Dropforge writes.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "functions"))

from jobspec.allowed import choices, keys_at, node_at, words  # noqa: E402 - found only after the path is set
from jobspec.base import Document  # noqa: E402
from jobspec.checkpoint import CheckpointManifest  # noqa: E402
from jobspec.heartbeat import Heartbeat  # noqa: E402
from jobspec.manifest import Manifest  # noqa: E402
from jobspec.marker import CompletionMarker  # noqa: E402
from jobspec.prepared import PreparedManifest  # noqa: E402
from jobspec.problems import Path as KeyPath  # noqa: E402
from jobspec.problems import dotted  # noqa: E402
from jobspec.runfile import Progress, RunFile, TrainerResults  # noqa: E402
from jobspec.status import Status  # noqa: E402
from jobspec.ticket import StopOrder, Ticket  # noqa: E402
from jobspec.units import DURATION_PATTERN, duration_text  # noqa: E402

#: Documents that Dropforge writes and reads; the manifest stands apart.
WRITTEN: dict[str, type[Document]] = {
    "ticket": Ticket,
    "stop": StopOrder,
    "heartbeat": Heartbeat,
    "checkpoint": CheckpointManifest,
    "prepared": PreparedManifest,
    "completion": CompletionMarker,
    "runfile": RunFile,
    "progress": Progress,
    "results": TrainerResults,
    "status": Status,
}
SCHEMA_FOLDER = "docs/schema"
REFERENCE = "docs/manifest.md"

_INTRODUCTION = """\
# The manifest

What a job is: one YAML (or JSON) file, put under `jobs/` in the data bucket. This page is generated from the models
(`python -m tools.schema`); the same models check every manifest, and [a JSON Schema](schema/manifest.v1.schema.json) of them
completes keys in an editor. Start from [minimal.yaml](../events/manifests/minimal.yaml).

Read strictly: no anchors, aliases, tags, duplicate or unknown keys; 64 KiB and 16 levels at most; plain ASCII in keys and values.
`no`, `on` and `12:30` are text; a number where text is wanted (`3.10`) is refused, not guessed: put it in quotes. Every problem
is reported at once, with its line.
"""


def generated() -> dict[str, str]:
    """Each generated file's path below the repository's root, and its content."""
    files = {f"{SCHEMA_FOLDER}/manifest.v1.schema.json": _schema_text(Manifest, "validation")}
    for name, model in WRITTEN.items():
        files[f"{SCHEMA_FOLDER}/{name}.v1.schema.json"] = _schema_text(model, "serialization")
    files[REFERENCE] = reference()
    return files


def reference() -> str:
    """The manifest's reference page: every section, every key."""
    parts = [_INTRODUCTION, "## Top level\n", *_table((), Manifest)]
    for path, model in _sections((), Manifest, set()):
        parts += [f"\n## {dotted(path).replace('[0]', '[]')}\n", f"{(model.__doc__ or '').strip()}\n", *_table(path, model)]
    return "\n".join(parts) + "\n"


def _schema_text(model: type[Document], mode: Any) -> str:
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **model.model_json_schema(mode=mode)}
    _mend_defaults(schema)
    return json.dumps(schema, indent=1) + "\n"


def _mend_defaults(node: Any) -> None:
    """Editors insert defaults: a duration's must be the text that people write, and a section's are its own keys'."""
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _mend_defaults(child)
    if isinstance(node, dict) and "default" in node:
        if node.get("pattern") == DURATION_PATTERN:
            node["default"] = duration_text(node["default"])
        elif "$ref" in node:
            del node["default"]


def _sections(path: KeyPath, model: type[Document], found: set[type[Document]]) -> Iterator[tuple[KeyPath, type[Document]]]:
    """Every section below ``model`` with its path, each kind of section once."""
    for key, field in model.model_fields.items():
        for below, section in _documents_in(field.annotation):
            if section not in found:
                found.add(section)
                yield (*path, key, *below), section
                yield from _sections((*path, key, *below), section, found)


def _documents_in(annotation: Any) -> Iterator[tuple[tuple[int, ...], type[Document]]]:
    """Sections that a field may hold: itself, one of a choice, or each one of a list (at index 0)."""
    if isinstance(annotation, type) and issubclass(annotation, Document):
        yield (), annotation
        return
    inside = (0,) if get_origin(annotation) is tuple else ()
    for part in get_args(annotation):
        for below, section in _documents_in(part):
            yield (*inside, *below), section


def _table(path: KeyPath, model: type[Document]) -> list[str]:
    rows = ["| key | what it may be | default | |", "|---|---|---|---|"]
    for key in keys_at(path):
        node = node_at((*path, key))
        if node is None:
            raise ValueError(f"{dotted((*path, key))}: in the keys, but not in the schema")
        section = any(choice.get("type") == "object" for choice in choices(node))
        told = next((each["description"] for each in (node, *choices(node)) if "description" in each), "")
        allowed = "a section, below" if section else words(node)
        rows.append(f"| `{key}` | {_cell(allowed)} | {_default(model, key, node, section)} | {_cell(told)} |")
    return rows


def _default(model: type[Document], key: str, node: dict[str, Any], section: bool) -> str:
    field = model.model_fields[key]
    if field.is_required():
        return "required"
    if section or field.default is None:
        return "its own defaults" if section and field.default is not None else "none"
    if node.get("pattern") == DURATION_PATTERN:
        return f"`{duration_text(field.default)}`"
    return f"`{json.dumps(field.default) if not isinstance(field.default, str) else field.default}`"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main(arguments: list[str] | None = None) -> int:
    """Exit 0 where all is well or was written, 1 where --check found a difference."""
    parser = argparse.ArgumentParser(prog="python -m tools.schema", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file is not up to date")
    parser.add_argument("--root", type=Path, default=ROOT, help="repository to write to or to check")
    options = parser.parse_args(arguments)
    stale = [(path, text) for path, text in generated().items() if not _is(options.root / path, text)]
    for path, text in stale:
        if options.check:
            sys.stderr.write(f"{path} is not what the models say: run `python -m tools.schema`\n")
        else:
            (options.root / path).parent.mkdir(parents=True, exist_ok=True)
            (options.root / path).write_text(text, encoding="utf-8")
            sys.stdout.write(f"wrote {path}\n")
    return 1 if stale and options.check else 0


def _is(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text(encoding="utf-8") == text


if __name__ == "__main__":
    sys.exit(main())
