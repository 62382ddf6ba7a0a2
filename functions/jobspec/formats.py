"""Formats of rows: which one a row is of, what keeps it from being one, and the row in Dropforge's own words.

Pure and quick, so that the agent can look at a first row and the trainer at every one, and both say the same.
"""

from typing import Any

from jobspec.data import FORMATS_OF, Columns, Format, methods_for

Row = dict[str, Any]

MAX_MESSAGES = 2000
ROLES = ("system", "user", "assistant", "tool")
#: The columns that a format cannot do without. A format stands before those whose columns are among its own.
KEYS: dict[Format, tuple[str, ...]] = {
    "preference": ("chosen", "rejected"),
    "binary-preference": ("prompt", "completion", "label"),
    "chat": ("messages",),
    "prompt-completion": ("prompt", "completion"),
    "text": ("text",),
    "prompt": ("prompt",),
}
EXAMPLES: dict[Format, str] = {
    "chat": '{"messages": [{"role": ..., "content": ...}]}',
    "prompt-completion": '{"prompt": ..., "completion": ...}',
    "text": '{"text": ...}',
    "preference": '{"prompt": ..., "chosen": ..., "rejected": ...}',
    "binary-preference": '{"prompt": ..., "completion": ..., "label": true or false}',
    "prompt": '{"prompt": ...} and the columns that the reward functions read',
}
#: Columns that may hold a text or a list of messages.
_SPOKEN = ("prompt", "completion", "chosen", "rejected")
#: ShareGPT's names of roles; its messages are {"from": ..., "value": ...}.
_SHAREGPT = {"human": "user", "user": "user", "gpt": "assistant", "chatgpt": "assistant", "assistant": "assistant", "system": "system", "tool": "tool"}
#: Names that data sets give to our columns, for a hint.
_OTHER_NAMES = {
    "conversations": "messages",
    "conversation": "messages",
    "dialog": "messages",
    "question": "prompt",
    "instruction": "prompt",
    "answer": "completion",
    "response": "completion",
    "output": "completion",
    "content": "text",
}


def allowed(formats: tuple[Format, ...]) -> str:
    """What a row may be, in a line: for the end of a message."""
    return "a row is " + " or ".join(f"{EXAMPLES[each]} ({each})" for each in formats)


def standard(value: Row, columns: Columns) -> Row:
    """The row with our names for its columns, and ShareGPT's messages as ours. Other columns stay as they are."""
    mapped = columns.named()
    row = {key: each for key, each in value.items() if key not in mapped.values()} if mapped else value
    for ours, theirs in mapped.items():
        if theirs in value:
            row[ours] = value[theirs]
    spoken = [key for key in ("messages", *_SPOKEN) if isinstance(row.get(key), list)]
    return {**row, **{key: [_message(each) for each in row[key]] for key in spoken}} if spoken else row


def _message(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() >= {"from", "value"} and not value.keys() & {"role", "content"}:
        speaker = value["from"]
        return {"role": _SHAREGPT.get(speaker, speaker) if isinstance(speaker, str) else speaker, "content": value["value"]}
    return value


def format_of(row: Row, method: str) -> Format:
    """The format of a file's first row, one of those that ``method`` learns from. Raises ValueError with the rest of a sentence: why it is of none."""
    for known in KEYS:
        if known in FORMATS_OF[method] and _has(row, known):
            return known
    for known in KEYS:
        if _has(row, known):
            raise ValueError(
                f"is a {known} row, but method {method} learns from {' or '.join(FORMATS_OF[method])} rows; "
                f"{known} rows are for method {' or '.join(methods_for(known))}"
            )
    hints = [f"{ours}: {theirs}" for theirs, ours in _OTHER_NAMES.items() if theirs in row]
    hint = f". If that is the right one, set data.columns: {{{hints[0]}}}" if hints else ""
    raise ValueError(f"has {_keys(row)}; none of the known formats{hint}")


def _has(row: Row, known: Format) -> bool:
    return all(key in row for key in KEYS[known])


def is_spoken(row: Row, wanted: Format) -> bool:
    """True where the row's prompt and answers are lists of messages rather than texts. A file holds one kind."""
    return wanted not in ("chat", "text") and isinstance(row.get(KEYS[wanted][0]), list)


def problem_of(row: Row, wanted: Format) -> str | None:
    """What keeps ``row`` from being a row of that format, or None."""
    missing = [key for key in KEYS[wanted] if key not in row]
    if missing:
        return f"no {' and no '.join(repr(key) for key in missing)} (found {_keys(row)}; this file is {wanted})"
    if wanted == "chat":
        return _messages_problem(row["messages"], "messages") or _chat_problem(row["messages"])
    if wanted == "text":
        return _text_problem(row["text"], "text", blank_allowed=False)
    if wanted == "binary-preference" and not isinstance(row["label"], bool):
        return f"'label' is {kind(row['label'])}; allowed: true or false"
    return _spoken_problem(row, wanted)


def _spoken_problem(row: Row, wanted: Format) -> str | None:
    """Prompts and answers: each a text, or each a list of messages."""
    spoken = is_spoken(row, wanted)
    for key in _SPOKEN:
        if key not in row or (key == "completion" and wanted == "prompt"):
            continue
        if isinstance(row[key], list) != spoken:
            return f"{key!r} is {kind(row[key])}, the row's other parts are {'messages' if spoken else 'texts'}; allowed: all of one kind"
        # A blank prompt before a completion is plain text to learn; a preference needs something to answer to.
        problem = _messages_problem(row[key], key) if spoken else _text_problem(row[key], key, blank_allowed=(key, wanted) == ("prompt", "prompt-completion"))
        problem = problem or (_order_problem(row, key) if spoken else None)
        if problem:
            return problem
    return _pair_problem(row) if wanted == "preference" else None


def _pair_problem(row: Row) -> str | None:
    if row["chosen"] == row["rejected"]:
        return "'chosen' and 'rejected' are the same: there is nothing to prefer"
    if "prompt" not in row and not with_prompt(row)["prompt"]:
        return "no 'prompt', and 'chosen' and 'rejected' do not begin alike: give the prompt a column of its own"
    return None


def with_prompt(row: Row) -> Row:
    """A preference row whose ``prompt`` stands apart: where it has none, what both answers begin with (whole messages, or whole words)."""
    if "prompt" in row:
        return row
    chosen, rejected = row["chosen"], row["rejected"]
    shorter = min(len(chosen), len(rejected))
    alike = next((at for at in range(shorter) if chosen[at] != rejected[at]), shorter)
    # An answer is left in both, also where one goes on where the other ends.
    alike = min(alike, shorter - 1)
    if isinstance(chosen, str):
        alike = next((at for at in range(alike, 0, -1) if chosen[at - 1].isspace()), 0)
    return {**row, "prompt": chosen[:alike], "chosen": chosen[alike:], "rejected": rejected[alike:]}


def _order_problem(row: Row, key: str) -> str | None:
    """A prompt begins with the user; an answer ends with the assistant's text."""
    if key == "prompt":
        return _begin_problem(row[key], key)
    if not (row[key][-1]["role"] == "assistant" and row[key][-1]["content"].strip()):
        return f"{key!r} does not end with an assistant turn with text"
    return _begin_problem(row[key], key) if "prompt" not in row else None


def _messages_problem(messages: object, name: str) -> str | None:
    if not isinstance(messages, list) or not messages:
        return f"{name!r} is {kind(messages)}; allowed: a list of messages that is not empty"
    if len(messages) > MAX_MESSAGES:
        return f"{len(messages)} messages; the limit is {MAX_MESSAGES}"
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            return f"{name}[{index}] is {kind(message)}; allowed: an object with role and content"
        role = message.get("role")
        if role not in ROLES:
            return f"{name}[{index}].role is {kind(role)} {role!r:.60}; allowed: {', '.join(ROLES)}"
        if problem := _text_problem(message.get("content"), f"{name}[{index}].content", blank_allowed=True):
            return problem
    return None


def _chat_problem(messages: list[Row]) -> str | None:
    if problem := _begin_problem(messages, "messages"):
        return problem
    if not any(message["role"] == "assistant" and message["content"].strip() for message in messages):
        return "no assistant turn with text: there is nothing to learn from"
    return None


def _begin_problem(messages: list[Row], name: str) -> str | None:
    spoken = [message["role"] for message in messages if message["role"] != "system"]
    if not spoken or spoken[0] != "user":
        return f"the first turn is {spoken[0] if spoken else 'missing'} in {name!r}; allowed: a user turn first (after any system message)"
    return None


def _text_problem(value: object, name: str, *, blank_allowed: bool) -> str | None:
    if not isinstance(value, str):
        return f"{name!r} is {kind(value)}; allowed: a text"
    if not blank_allowed and not value.strip():
        return f"{name!r} is blank; allowed: a text that is not"
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"{name!r} holds half of a surrogate pair at character {error.start}; allowed: valid Unicode"
    return None


def _keys(row: Row) -> str:
    return "the keys " + (", ".join(sorted(str(key)[:40] for key in row)[:10]) or "none")


def kind(value: object) -> str:
    """What a JSON value is, for people."""
    names = {dict: "an object", list: "an empty list" if value == [] else "a list", str: "the text", bool: "a boolean", type(None): "missing or null"}
    return names.get(type(value), "a number")
