"""Commands as people type them, read as their tools would read them: ``aws`` by botocore's service models, ``dropforge`` by its click tree.

The AWS command line itself is not needed: it derives its commands, options and required values from the same models
(service and operation names with hyphens, one option a member). ``HIGH_LEVEL`` lists the few commands that it adds.
"""

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import botocore.session
import click
from botocore import xform_name
from botocore.exceptions import UnknownServiceError
from botocore.model import ListShape, OperationModel, Shape, StructureShape
from botocore.validate import ParamValidator

_SESSION = botocore.session.Session()
#: Options of every command (AWS CLI guide, "Global command line options"), and whether a value follows.
GLOBAL_OPTIONS = {
    "--region": True,
    "--profile": True,
    "--query": True,
    "--output": True,
    "--endpoint-url": True,
    "--no-cli-pager": False,
    "--no-paginate": False,
    "--max-items": True,
}
#: Commands that are no API operations (AWS CLI reference), their options (True: a value follows) and how many plain words they take.
HIGH_LEVEL: dict[tuple[str, ...], tuple[dict[str, bool], range]] = {
    ("s3", "mb"): ({}, range(1, 2)),
    ("s3", "cp"): ({"--recursive": False, "--sse": True, "--dryrun": False}, range(2, 3)),
    ("s3", "ls"): ({"--recursive": False}, range(2)),
    ("s3", "presign"): ({"--expires-in": True}, range(1, 2)),
    ("s3", "rm"): ({"--recursive": False, "--dryrun": False}, range(1, 2)),
    ("s3", "sync"): ({"--delete": False, "--dryrun": False}, range(2, 3)),
    ("cloudformation", "deploy"): (
        {"--template-file": True, "--stack-name": True, "--capabilities": True, "--parameter-overrides": True},
        range(1),
    ),
    ("configure",): ({}, range(1)),
    ("configure", "sso"): ({}, range(1)),
    ("ecr", "get-login-password"): ({}, range(1)),
    ("logs", "tail"): ({"--follow": False, "--since": True, "--format": True, "--filter-pattern": True, "--log-stream-name-prefix": True}, range(1, 2)),
    ("ssm", "start-session"): ({"--target": True}, range(1)),
}
#: Names of the command line for services whose model has another name.
ALIASES = {"s3api": "s3"}
#: Options that the command line names otherwise than the model, because a global option has that name.
RENAMED = {("sns", "Subscribe"): {"--endpoint": "--notification-endpoint"}}
WAITERS = "wait"


class NotACommand(ValueError):
    """What would be refused, and why."""


@dataclass(frozen=True)
class AwsCommand:
    """An API call: the service's name in botocore, the operation's, and its parameters with the types of the model."""

    service: str
    operation: str
    parameters: dict[str, Any] = field(default_factory=dict)


def commands_of(page: Path) -> Iterator[str]:
    """Every ``aws``, ``dropforge`` and ``sam`` command of a page: in its shell blocks, joined over lines, and in its prose."""
    text = page.read_text()
    for language, block in re.findall(r"^[ ]*```([a-z]*)\n(.*?)^[ ]*```", text, re.MULTILINE | re.DOTALL):
        if language in ("", "sh", "bash", "console"):
            for line in re.sub(r"\s*\\\n\s*", " ", block).splitlines():
                if re.match(r"\s*(?:[A-Z_]+=\S+ )?(?:eval |sudo )?[\"$(]*(?:aws|dropforge|sam|\.venv/bin/dropforge) ", line):
                    # A word of explanation may stand well to the right of the command.
                    yield re.split(r"\s{3,}", line.strip())[0]
    prose = re.sub(r"^[ ]*```.*?^[ ]*```", "", text, flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"`((?:aws|dropforge) [^`]+)`", prose)


def simple_commands(line: str) -> Iterator[list[str]]:
    """The words of every simple command in a line: those of pipes, lists and substitutions one by one."""
    while inner := re.search(r"\$\(([^()]*)\)", line):
        yield from simple_commands(inner.group(1))
        line = f"{line[: inner.start()]}SUBSTITUTED{line[inner.end() :]}"
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for token in lexer:
        if set(token) <= set("|&;<>"):
            if words:
                yield words
            words = []
            continue
        words.append(token)
    if words:
        yield words


def read_aws(words: list[str]) -> AwsCommand | None:
    """The API call of ``aws ...``; None for one of the high-level commands. Raises NotACommand."""
    assert words[0] == "aws"
    for length in (2, 1):
        if tuple(words[1 : 1 + length]) in HIGH_LEVEL:
            options, count = HIGH_LEVEL[tuple(words[1 : 1 + length])]
            _check_high_level(words[1 + length :], options, count)
            return None
    if len(words) < 3:
        raise NotACommand(f"{' '.join(words)}: no operation")
    service, verb = ALIASES.get(words[1], words[1]), words[2]
    try:
        model = _SESSION.get_service_model(service)
    except UnknownServiceError:
        raise NotACommand(f"no service {words[1]}") from None
    if verb == WAITERS:
        names = {xform_name(name, "-") for name in _SESSION.create_client(service, region_name="us-east-1").waiter_names}
        if len(words) < 4 or words[3].replace("_", "-") not in {name.replace("_", "-") for name in names}:
            raise NotACommand(f"{service}: no waiter {words[3:4]}")
        return None
    found = {xform_name(name, "-"): name for name in model.operation_names}.get(verb)
    if found is None:
        raise NotACommand(f"{service} has no {verb}")
    operation = model.operation_model(found)
    parameters = dict(_parameters(operation, words[3:]))
    if operation.input_shape is not None:
        from_files = {name for name, value in parameters.items() if isinstance(value, str) and value.startswith("file://")}
        readable = {name: value for name, value in parameters.items() if name not in from_files}
        report = ParamValidator().validate(readable, operation.input_shape).generate_report()
        complaints = [line for line in report.splitlines() if not any(line.endswith(f'input: "{name}"') for name in from_files)]
        if complaints:
            raise NotACommand(f"{service} {verb}: {complaints}")
    return AwsCommand(service, found, parameters)


def _check_high_level(words: list[str], options: dict[str, bool], count: range) -> None:
    plain, known = 0, options | GLOBAL_OPTIONS
    rest = iter(words)
    for word in rest:
        if not word.startswith("--"):
            plain += 1
        elif word not in known:
            raise NotACommand(f"no option {word}")
        elif known[word] and next(rest, None) is None:
            raise NotACommand(f"{word} wants a value")
    if plain not in count:
        raise NotACommand(f"{plain} words where {count.start} to {count.stop - 1} are wanted")


def _parameters(operation: OperationModel, words: list[str]) -> Iterator[tuple[str, Any]]:
    members: dict[str, tuple[str, Shape]] = {}
    if operation.input_shape is not None:
        members = {f"--{xform_name(name, '-')}": (name, shape) for name, shape in operation.input_shape.members.items()}
    for old, new in RENAMED.get((operation.service_model.service_name, operation.name), {}).items():
        members[new] = members.pop(old)
    at = 0
    while at < len(words):
        option, at = words[at], at + 1
        if option in GLOBAL_OPTIONS:
            at += GLOBAL_OPTIONS[option]
            continue
        if option.startswith("--no-") and f"--{option[5:]}" in members and members[f"--{option[5:]}"][1].type_name == "boolean":
            yield members[f"--{option[5:]}"][0], False
            continue
        if option not in members:
            raise NotACommand(f"{operation.name} has no {option}")
        name, shape = members[option]
        values = []
        while at < len(words) and not words[at].startswith("--"):
            values.append(words[at])
            at += 1
        yield name, _value(option, shape, values)


def _value(option: str, shape: Shape, words: list[str]) -> Any:
    # Attributes that are a structure with one boolean, such as ModifySubnetAttribute's, are flags on the command line.
    if isinstance(shape, StructureShape) and not words and list(shape.members) == ["Value"]:
        return {"Value": True}
    if shape.type_name == "boolean" and not words:
        return True
    if not words:
        raise NotACommand(f"{option} wants a value")
    if words[0].startswith("file://"):
        return words[0]
    if words[0].lstrip().startswith(("[", "{")) and shape.type_name in ("list", "structure", "map"):
        return json.loads(words[0])
    if isinstance(shape, ListShape):
        return [_one(option, shape.member, word) for word in words]
    if len(words) > 1:
        raise NotACommand(f"{option} wants one value, not {words}")
    return _one(option, shape, words[0])


def _one(option: str, shape: Shape, word: str) -> Any:
    match shape.type_name:
        case "integer" | "long":
            # A placeholder in capitals stands for a number that the reader gives.
            return 1 if re.fullmatch(r"[A-Z][A-Z-]*", word) else int(word)
        case "float" | "double":
            return 1.0 if re.fullmatch(r"[A-Z][A-Z-]*", word) else float(word)
        case "boolean":
            return word == "true"
        case "structure" | "map":
            return _shorthand(option, shape, word)
        case "blob":
            return word.encode()
        case "timestamp":
            return "2026-01-01T00:00:00Z" if "YYYY" in word else word
    return word


def _shorthand(option: str, shape: Shape, word: str) -> dict[str, Any]:
    """``Name=a,Values=b,c``: a part without an equals sign goes on the list before it (AWS CLI guide, "Shorthand syntax")."""
    said: dict[str, list[str]] = {}
    key = ""
    for part in word.split(","):
        name, equals, value = part.partition("=")
        if equals:
            key = name
            said[key] = [value]
        elif key:
            said[key].append(part)
        else:
            raise NotACommand(f"{option}: {word!r} is neither JSON nor Key=Value")
    if not isinstance(shape, StructureShape):
        return {name: ",".join(values) for name, values in said.items()}
    unknown = set(said) - set(shape.members)
    if unknown:
        raise NotACommand(f"{option} has no {', '.join(sorted(unknown))}")
    return {name: _value(option, shape.members[name], values) for name, values in said.items()}


def check_dropforge(words: list[str], main: click.Command) -> None:
    """Raises NotACommand for a command, option or number of words that ``dropforge`` would refuse; values are not looked at."""
    command, context, rest = main, click.Context(main, info_name="dropforge"), words[1:]
    while isinstance(command, click.Group):
        if not rest:
            raise NotACommand(f"{' '.join(words)}: no command")
        if rest[0] in ("--help", "-h", "--version"):
            return
        found = command.get_command(context, rest[0])
        if found is None:
            raise NotACommand(f"dropforge has no {' '.join(words[1 : len(words) - len(rest) + 1])}")
        command, context, rest = found, click.Context(found, info_name=rest[0], parent=context), rest[1:]
    if {"--help", "-h"} & set(rest):
        return
    try:
        given, plain, _ = command.make_parser(context).parse_args(list(rest))
    except click.UsageError as error:
        raise NotACommand(f"{' '.join(words)}: {error.format_message()}") from None
    if plain:
        raise NotACommand(f"{' '.join(words)}: too many words: {plain}")
    for parameter in command.params:
        value = given.get(parameter.name or "")
        if isinstance(parameter, click.Argument) and parameter.required and not (isinstance(value, str | tuple) and value):
            raise NotACommand(f"{' '.join(words)}: {parameter.name} is missing")
