"""E-mail subscriptions of SNS topics: each message becomes one file, ``mail/0001-<subject>.txt``. Nobody has to confirm."""

import re
import threading
from datetime import UTC, datetime
from email.message import EmailMessage
from email.utils import format_datetime
from pathlib import Path
from typing import Any

from dropforge.local.plugin import seams
from dropforge.local.plugin.settings import Settings

SENDER = "AWS Notifications <no-reply@sns.amazonaws.com>"


def install(settings: Settings) -> None:
    folder = settings.home / "mail"
    folder.mkdir(parents=True, exist_ok=True)
    seams.wrap("services.sns", "_fanout", lambda original: _also_to_files(original, folder))


def _also_to_files(original: Any, folder: Path) -> Any:
    lock = threading.Lock()

    def fanout(topic_arn: str, msg_id: str, message: str, subject: str, *rest: Any, **more: Any) -> Any:
        structure = rest[0] if rest else more.get("message_structure", "")
        attributes = rest[1] if len(rest) > 1 else more.get("message_attributes")
        topic = seams.sns._topic_by_arn_any_scope(topic_arn) or {"subscriptions": []}
        for subscription in topic["subscriptions"]:
            if subscription.get("protocol") in ("email", "email-json"):
                text = seams.sns._resolve_message_for_protocol(message, structure, subscription["protocol"])
                if seams.sns._matches_filter_policy(subscription, attributes or {}, text):
                    with lock:
                        _write(folder, msg_id, subscription["endpoint"], subject or "AWS Notification Message", text)
        return original(topic_arn, msg_id, message, subject, *rest, **more)

    return fanout


def _write(folder: Path, message_id: str, to: str, subject: str, text: str) -> None:
    mail = EmailMessage()
    mail["Date"] = format_datetime(datetime.now(UTC))
    mail["From"], mail["To"], mail["Message-ID"] = SENDER, to, f"<{message_id}@sns>"
    mail["Subject"] = " ".join(subject.split())
    number = len(list(folder.glob("*.txt"))) + 1
    slug = re.sub(r"[^a-z0-9]+", "-", subject.lower()).strip("-")[:60] or "message"
    head = "".join(f"{name}: {value}\n" for name, value in mail.items())
    target = folder / f"{number:04d}-{slug}.txt"
    target.with_suffix(".part").write_text(f"{head}\n{text}\n")
    target.with_suffix(".part").rename(target)
