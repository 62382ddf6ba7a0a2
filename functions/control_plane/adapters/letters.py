"""What SNS takes as an e-mail, checked before it is asked (SNS API reference, Publish)."""

from control_plane.ports import Letter

MAX_SUBJECT = 100
MAX_BODY_BYTES = 256 * 1024


def attributes_of(letter: Letter) -> dict[str, str]:
    """The message attributes: the letter's own and its id, by which a subscriber tells a second delivery. SNS takes no empty value."""
    return {key: value for key, value in {**letter.attributes, "notice_id": letter.notice_id}.items() if value}


def refuse_unsendable(letter: Letter) -> None:
    """Raises ValueError for a letter that SNS would refuse, naming the part and the limit."""
    subject = letter.subject
    if not 1 <= len(subject) <= MAX_SUBJECT or not subject.isascii() or not subject.isprintable() or subject[0] == " ":
        raise ValueError(
            f"letter {letter.notice_id}: the subject {subject[:120]!r} must be 1 to {MAX_SUBJECT} printable ASCII characters, not starting with a space"
        )
    size = len(letter.body.encode())
    if not 1 <= size <= MAX_BODY_BYTES:
        raise ValueError(f"letter {letter.notice_id}: the body has {size} bytes, SNS takes 1 to {MAX_BODY_BYTES}")
