"""EC2's query protocol: flat ``A.1.B=c`` parameters in, XML out. Nothing here knows an instance."""

from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape


def nest(params: Mapping[str, Any]) -> dict[str, Any]:
    """``{"A.1.B": ["c"]}`` -> ``{"A": [{"B": "c"}]}``; of a repeated parameter the first value counts."""
    tree: dict[str, Any] = {}
    for name, value in params.items():
        node, parts = tree, name.split(".")
        for part in parts[:-1]:
            child = node.setdefault(part, {})
            if not isinstance(child, dict):
                child = node[part] = {}
            node = child
        node[parts[-1]] = value[0] if isinstance(value, list) and value else value
    nested = _listed(tree)
    return nested if isinstance(nested, dict) else {}


def _listed(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if node and all(key.isdigit() for key in node):
        return [_listed(node[key]) for key in sorted(node, key=int)]
    return {key: _listed(value) for key, value in node.items()}


def render(value: Any) -> str:
    """Dicts become elements, lists become ``item`` elements, None vanishes, booleans are lower case."""
    if isinstance(value, dict):
        return "".join(f"<{key}>{render(item)}</{key}>" for key, item in value.items() if item is not None)
    if isinstance(value, list):
        return "".join(f"<item>{render(item)}</item>" for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    return escape(str(value))


def tags_of(specifications: list[dict[str, Any]], resource_type: str) -> dict[str, str]:
    """The tags that a TagSpecification list gives one kind of resource."""
    tags: dict[str, str] = {}
    for specification in specifications:
        if specification.get("ResourceType") == resource_type:
            tags.update({tag["Key"]: tag.get("Value") or "" for tag in specification.get("Tag", specification.get("Tags", []))})
    return tags
