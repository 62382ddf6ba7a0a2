"""What a webhook is sent of a message of the topic, and how it is signed. Pure.

Slack and Teams each take a form of their own (Slack's "Sending messages using incoming webhooks"; Teams' Workflows take an Adaptive Card),
told by the address; anybody else gets our own JSON. Signed as the Standard Webhooks specification 1.0 has it, whose libraries check it.
A letter's words may be a manifest's or an instance's: they are given where neither service reads markup in them.
"""

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

#: A chat shows this much without a click; the whole letter is the e-mail.
MOST_CHARACTERS = 3000
KEY_PREFIX = "whsec_"
#: Teams' own hosts of workflows, the older and the newer one.
_TEAMS = (".logic.azure.com", ".api.powerplatform.com")
_SLACK = ("hooks.slack.com", "hooks.slack-gov.com")


@dataclass(frozen=True, slots=True)
class Told:
    """One message of the topic. ``message_id``: the same for every delivery of it. ``facts``: its attributes, such as project, job, kind, state."""

    message_id: str
    at: str
    subject: str
    text: str
    facts: dict[str, str]


@dataclass(frozen=True, slots=True, repr=False)
class Target:
    """Where to post. The address is a secret: whoever knows it may post. ``key``: to sign with, None where the value has none."""

    host: str
    port: int
    path: str
    key: bytes | None


def target_of(value: str) -> Target:
    """From what the parameter holds: an https address, and behind a space the key to sign with. Raises ValueError, without the value."""
    address, _, key = value.strip().partition(" ")
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port or 443
    except ValueError:
        raise ValueError("the webhook's address cannot be read") from None
    if parts.scheme != "https" or not host or parts.username or parts.password or not address.isascii() or not address.isprintable():
        raise ValueError("the webhook's address must be https://HOST/PATH, without a user's name in it")
    return Target(host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else ""), _key(key.strip()) if key.strip() else None)


def _key(text: str) -> bytes:
    try:
        key = base64.b64decode(text.removeprefix(KEY_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"the webhook's key must be {KEY_PREFIX} and base64") from None
    if not 24 <= len(key) <= 64:
        raise ValueError("the webhook's key must have 24 to 64 bytes")
    return key


def headers_of(told: Told, target: Target, body: bytes, at_s: int) -> dict[str, str]:
    """``at_s``: seconds since 1970 of this try; a receiver refuses what is too old, and takes an id that it has seen for done."""
    headers = {"Content-Type": "application/json", "User-Agent": "Dropforge", "webhook-id": told.message_id, "webhook-timestamp": str(at_s)}
    if target.key is not None:
        signed = hmac.new(target.key, f"{told.message_id}.{at_s}.".encode() + body, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(signed).decode()}"
    return headers


def body_of(told: Told, host: str) -> bytes:
    """The JSON to post to that host."""
    text = told.text.strip()
    text = text if len(text) <= MOST_CHARACTERS else text[:MOST_CHARACTERS].rstrip() + "\n..."
    content: dict[str, Any]
    if host in _SLACK:
        content = {"text": f"{_for_slack(told.subject)}\n```{_for_slack(text)}```"}
    elif host.endswith(_TEAMS):
        content = _card(told.subject, text)
    else:
        content = {"version": 1, "id": told.message_id, "at": told.at, "subject": told.subject, "text": text, **told.facts}
    return json.dumps(content).encode()


def _for_slack(text: str) -> str:
    """Slack's reference, "Escaping text"; three backticks would end the block."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("```", "'''")


def _card(subject: str, text: str) -> dict[str, Any]:
    """Runs of text, which unlike text blocks know no markup (Adaptive Cards schema, TextRun)."""
    runs = [{"type": "TextRun", "text": subject, "weight": "Bolder"}], [{"type": "TextRun", "text": text, "fontType": "Monospace", "size": "Small"}]
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "body": [{"type": "RichTextBlock", "inlines": inlines} for inlines in runs],
    }
    return {"type": "message", "attachments": [{"contentType": "application/vnd.microsoft.card.adaptive", "content": card}]}
