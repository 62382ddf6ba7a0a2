"""What the topic says, posted to an HTTPS endpoint: whole, signed, once for each delivery, and without a word of its address anywhere."""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from control_plane.adapters.webhook import WebhookRefused
from control_plane.core.events import Ignored
from control_plane.core.webhooks import MOST_CHARACTERS, Told, body_of, target_of
from control_plane.handlers import door, webhook
from tests.driver.house import CONTEXT as HOUSES_CONTEXT
from tests.driver.house import WEBHOOK, House
from tests.handlers.endpoint import Endpoint, listening
from tests.handlers.test_doors import CONTEXT, NOT_EVENTS

SECRET = "secret-7f3a"
KEY = b"k" * 32
SIGNING = f"whsec_{base64.b64encode(KEY).decode()}"


@pytest.fixture
def endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    with listening(tmp_path) as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(server.certificate))
        yield server


def ended_job(address: str) -> tuple[House, dict[str, Any]]:
    """A job that has run to its end, the webhook's address in place, and the event of its last letter."""
    house = House()
    house.account.ssm.held[WEBHOOK] = address
    house.put()
    house.beat()
    house.finish()
    house.tick()
    return house, event_of(house.account.sns.published[-1])


def event_of(note: dict[str, Any]) -> dict[str, Any]:
    return {"Records": [{"EventSource": "aws:sns", "Sns": note | {"Timestamp": "2026-11-01T12:00:00.000Z"}}]}


def post(house: House, event: dict[str, Any]) -> Any:
    return webhook.handle(event, HOUSES_CONTEXT, house.rooms)


def test_the_end_of_a_job_is_posted_with_what_it_is_about_and_signed_so_that_the_receiver_can_tell(endpoint: Endpoint) -> None:
    house, event = ended_job(f"{endpoint.address}/{SECRET}?team=a {SIGNING}")
    assert post(house, event) == {"posted": 1}
    ((path, headers, body),) = endpoint.received
    assert path == f"/{SECRET}?team=a"
    said = json.loads(body)
    note = event["Records"][0]["Sns"]
    assert (said["version"], said["id"], said["at"], said["subject"]) == (1, note["MessageId"], note["Timestamp"], note["Subject"])
    assert (said["project"], said["job"], said["kind"], said["state"]) == ("proj", "tale", "end", "SUCCEEDED")
    assert said["notice_id"] == f"{house.job.job_id}#end"
    assert said["text"].startswith("tale finished.")
    assert headers["content-type"] == "application/json"
    at = headers["webhook-timestamp"]
    assert int(at) == int(house.now.timestamp())
    signed = hmac.new(KEY, f"{note['MessageId']}.{at}.".encode() + body, hashlib.sha256).digest()
    assert (headers["webhook-id"], headers["webhook-signature"]) == (note["MessageId"], f"v1,{base64.b64encode(signed).decode()}")


def test_without_a_key_nothing_is_signed(endpoint: Endpoint) -> None:
    house, event = ended_job(endpoint.address)
    post(house, event)
    ((path, headers, _),) = endpoint.received
    assert path == "/"
    assert "webhook-signature" not in headers


def test_a_second_try_has_the_same_id_and_a_time_of_its_own(endpoint: Endpoint) -> None:
    house, event = ended_job(f"{endpoint.address}/{SECRET} {SIGNING}")
    endpoint.answers = [503, 200]
    with pytest.raises(WebhookRefused, match=r"127\.0\.0\.1 answered 503"):
        post(house, event)
    house.wait(60)
    post(house, event)
    (_, first, body), (_, second, again) = endpoint.received
    assert (first["webhook-id"], body) == (second["webhook-id"], again)
    assert int(second["webhook-timestamp"]) == int(first["webhook-timestamp"]) + 60


@pytest.mark.parametrize("status", [301, 307, 404, 410, 429, 500])
def test_whatever_is_not_taken_is_raised_so_that_it_comes_again_and_no_redirect_is_followed(endpoint: Endpoint, status: int) -> None:
    house, event = ended_job(f"{endpoint.address}/{SECRET}")
    endpoint.answers = [status]
    with pytest.raises(WebhookRefused):
        post(house, event)
    assert len(endpoint.received) == 1


def test_an_endpoint_with_a_strangers_certificate_is_told_nothing(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    house, event = ended_job(f"{endpoint.address}/{SECRET}")
    with pytest.raises(WebhookRefused, match="not reached: SSLCertVerificationError"):
        post(house, event)
    assert endpoint.received == []


def test_a_changed_address_counts_from_the_next_message_on(endpoint: Endpoint) -> None:
    house, event = ended_job(f"{endpoint.address}/old")
    post(house, event)
    house.account.ssm.held[WEBHOOK] = f"{endpoint.address}/new"
    post(house, event)
    assert [path for path, *_ in endpoint.received] == ["/old", "/new"]


@pytest.mark.parametrize(
    "held",
    [
        f"http://127.0.0.1/{SECRET}",
        f"127.0.0.1/{SECRET}",
        f"https://user:{SECRET}@127.0.0.1/",
        f"https:///{SECRET}",
        f"https://127.0.0.1:x/{SECRET}",
        f"https://127.0.0.1/{SECRET}\r\nX: y",
        f"https://127.0.0.1/ {SECRET}",
        f"https://127.0.0.1/{SECRET} whsec_c2hvcnQ=",
    ],
)
def test_a_parameter_that_holds_no_https_address_or_no_key_is_refused_without_a_word_of_it(held: str) -> None:
    house, event = ended_job(held)
    with pytest.raises(ValueError, match=f"parameter {WEBHOOK}: the webhook's ") as raised:
        post(house, event)
    assert SECRET not in str(raised.value)
    assert raised.value.__suppress_context__


@pytest.mark.parametrize(("path", "answer"), [("taken", 200), ("refused", 404), ("gone", None)])
def test_no_log_line_and_no_error_holds_the_address(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, path: str, answer: int | None
) -> None:
    house, event = ended_job(f"{endpoint.address if answer else 'https://127.0.0.1:9'}/{SECRET} {SIGNING}")
    endpoint.answers = [answer or 200]
    monkeypatch.setattr(door, "rooms", lambda: house.rooms)
    if answer == 200:
        assert webhook.handler(event, CONTEXT)["posted"] == 1
    else:
        with pytest.raises(WebhookRefused):
            webhook.handler(event, CONTEXT)
    printed = "".join(capsys.readouterr()) + caplog.text
    assert "handled" in printed
    assert SECRET not in printed
    assert SIGNING not in printed


def test_what_is_no_event_of_the_topic_is_ignored() -> None:
    house = House()
    for event in NOT_EVENTS:
        assert isinstance(post(house, event), Ignored)


def test_an_alarm_is_told_in_its_own_words(endpoint: Endpoint) -> None:
    house, _ = ended_job(endpoint.address)
    alarm = {"AlarmName": "a", "AlarmDescription": "No tick for ten minutes.", "NewStateValue": "ALARM", "NewStateReason": "Threshold crossed", "Trigger": {}}
    post(house, event_of({"MessageId": "m", "Subject": 'ALARM: "a" in EU (Ireland)', "Message": json.dumps(alarm)}))
    ((*_, body),) = endpoint.received
    said = json.loads(body)
    assert (said["kind"], said["text"]) == ("alarm", "No tick for ten minutes.\nThreshold crossed")


def told(text: str, subject: str = "[Dropforge] tale failed, $0.10") -> Told:
    return Told("m", "2026-11-01T12:00:00.000Z", subject, text, {"kind": "end"})


def test_slack_gets_its_own_form_in_which_a_strangers_words_are_no_link_and_no_mention() -> None:
    said = json.loads(body_of(told("<!channel> & <https://evil.example|here>\n```"), "hooks.slack.com"))
    assert said == {"text": "[Dropforge] tale failed, $0.10\n```&lt;!channel&gt; &amp; &lt;https://evil.example|here&gt;\n'''```"}


@pytest.mark.parametrize("host", ["prod-1.westeurope.logic.azure.com", "default0.de.environment.api.powerplatform.com"])
def test_teams_gets_a_card_without_markup(host: str) -> None:
    (attachment,) = json.loads(body_of(told("[here](https://evil.example)"), host))["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    subject, text = attachment["content"]["body"]
    assert {block["type"] for block in (subject, text)} == {"RichTextBlock"}
    assert [run["text"] for block in (subject, text) for run in block["inlines"]] == ["[Dropforge] tale failed, $0.10", "[here](https://evil.example)"]


def test_another_host_that_ends_like_one_of_theirs_gets_ours() -> None:
    for host in ("evil-hooks.slack.com.example", "logic.azure.com.example", "example.com"):
        assert json.loads(body_of(told("x"), host))["version"] == 1


def test_a_long_letter_is_cut_where_a_chat_would_fold_it() -> None:
    said = json.loads(body_of(told("word " * 5000), "example.com"))
    assert len(said["text"]) <= MOST_CHARACTERS + 4
    assert said["text"].endswith("word\n...")


def test_a_target_does_not_show_itself() -> None:
    assert SECRET not in repr(target_of(f"https://example.com/{SECRET} {SIGNING}"))
