"""The instance metadata service: one loopback server an instance, version 2 only, as ``HttpTokens: required`` makes it.

Paths and bodies are those of the EC2 user guide ("Instance metadata categories", "Spot Instance interruption notices").
Credentials are a session of the instance profile's role named after the instance, so that ``${aws:userid}`` in its
policies is ``<role id>:<instance id>``.
"""

import json
import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from dropforge.local.plugin import seams
from dropforge.local.plugin.machines import Machine, scoped

TOKEN_TTL_MAX_S = 21600
CREDENTIALS_S = 6 * 3600
#: EC2 offers new credentials at least five minutes before the old ones end (EC2 guide, "Retrieve security credentials").
CREDENTIALS_RENEWED_S = 600
_META = "/latest/meta-data/"


class Metadata:
    """What one instance may learn about itself, by path."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._lock = threading.Lock()
        self._credentials: dict[str, str] = {}
        self._credentials_until = 0.0

    def get(self, path: str) -> str | None:
        """The text at ``path`` (``/latest/...``), or None where EC2 answers 404."""
        if path == "/latest/user-data":
            return self._machine.launch.user_data.decode("utf-8", "replace") or None
        if path == "/latest/dynamic/instance-identity/document":
            return self._identity()
        if not path.startswith(_META):
            return None
        leaf = path.removeprefix(_META).rstrip("/")
        if leaf == "tags/instance" or leaf.startswith("tags/instance/"):
            return self._tag(leaf.removeprefix("tags/instance").removeprefix("/"))
        if leaf.startswith("iam/"):
            return self._iam(leaf.removeprefix("iam/"))
        return self._plain(leaf)

    def _plain(self, leaf: str) -> str | None:
        machine = self._machine
        launch = machine.launch
        sources: dict[str, Callable[[], str | None]] = {
            "ami-id": lambda: launch.image_id,
            "events/recommendations/rebalance": lambda: _document(noticeTime=machine.rebalance_at),
            "instance-id": lambda: machine.instance_id,
            "instance-life-cycle": lambda: launch.market,
            "instance-type": lambda: launch.pool.instance_type,
            "local-ipv4": lambda: str(machine.record["PrivateIpAddress"]),
            "placement/availability-zone": lambda: launch.pool.zone,
            "placement/region": lambda: machine.scope[1],
            "services/domain": lambda: "amazonaws.com",
            "spot/instance-action": lambda: _document("terminate", time=machine.notice_at),
        }
        source = sources.get(leaf)
        return source() if source else None

    def _tag(self, key: str) -> str | None:
        if self._machine.launch.metadata.get("InstanceMetadataTags") != "enabled":
            return None
        with scoped(self._machine):
            tags = {tag["Key"]: tag["Value"] for tag in seams.ec2._tags.get(self._machine.instance_id, [])}
        return tags.get(key) if key else "\n".join(sorted(tags))

    def _iam(self, leaf: str) -> str | None:
        role = self._machine.launch.role
        if role is None:
            return None
        if leaf == "info":
            return json.dumps({"Code": "Success", "InstanceProfileArn": self._machine.launch.profile_arn})
        if leaf == "security-credentials":
            return role
        return json.dumps(self._role_credentials(role)) if leaf == f"security-credentials/{role}" else None

    def _role_credentials(self, role: str) -> dict[str, str]:
        with self._lock, scoped(self._machine):
            if time.time() > self._credentials_until - CREDENTIALS_RENEWED_S:
                self._credentials, self._credentials_until = new_session(role, self._machine.instance_id), time.time() + CREDENTIALS_S
            return self._credentials

    def _identity(self) -> str:
        launch, (account, region) = self._machine.launch, self._machine.scope
        return json.dumps(
            {
                "accountId": account,
                "availabilityZone": launch.pool.zone,
                "imageId": launch.image_id,
                "instanceId": self._machine.instance_id,
                "instanceType": launch.pool.instance_type,
                "pendingTime": _z(self._machine.launched_at),
                "region": region,
                "version": "2017-09-30",
            }
        )


def new_session(role: str, instance_id: str) -> dict[str, str]:
    """Credentials as EC2 hands them out, known to the emulator's STS under the name of the instance."""
    account = seams.responses.get_account_id()
    now = datetime.now(UTC)
    access_key, secret, token = f"ASIA{secrets.token_hex(8).upper()}", secrets.token_urlsafe(30), secrets.token_urlsafe(120)
    seams.sts.register_session(
        access_key,
        {
            "Arn": f"arn:aws:sts::{account}:assumed-role/{role}/{instance_id}",
            "UserId": f"{seams.iam._roles[role]['RoleId']}:{instance_id}",
            "SecretAccessKey": secret,
            "SessionToken": token,
            "PrincipalType": "AssumedRole",
            "IssuedAt": now.timestamp(),
            "Expiration": now.timestamp() + CREDENTIALS_S,
        },
    )
    return {
        "Code": "Success",
        "LastUpdated": _z(now),
        "Type": "AWS-HMAC",
        "AccessKeyId": access_key,
        "SecretAccessKey": secret,
        "Token": token,
        "Expiration": _z(now + timedelta(seconds=CREDENTIALS_S)),
    }


def _document(action: str | None = None, **moment: datetime | None) -> str | None:
    ((name, at),) = moment.items()
    if at is None:
        return None
    return json.dumps(({"action": action} if action else {}) | {name: _z(at)})


def _z(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


class MetadataServer:
    """Serves one instance on a loopback port of its own, as long as the instance lives."""

    def __init__(self, machine: Machine) -> None:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(Metadata(machine)))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name=f"imds-{machine.instance_id}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(metadata: Metadata) -> type[BaseHTTPRequestHandler]:
    tokens: dict[str, float] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            wanted = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
            if self.path != "/latest/api/token" or not (wanted.isdigit() and 1 <= int(wanted) <= TOKEN_TTL_MAX_S):
                return self._answer(400, "Bad Request")
            token = secrets.token_urlsafe(40)
            tokens[token] = time.monotonic() + int(wanted)
            return self._answer(200, token, {"X-aws-ec2-metadata-token-ttl-seconds": wanted})

        def do_GET(self) -> None:
            if tokens.get(self.headers.get("X-aws-ec2-metadata-token", ""), 0.0) < time.monotonic():
                return self._answer(401, "Unauthorized")
            text = metadata.get(unquote(self.path))
            return self._answer(404, "Not Found") if text is None else self._answer(200, text)

        def _answer(self, status: int, text: str, extra: dict[str, str] | None = None) -> None:
            body = text.encode()
            self.send_response(status)
            for name, value in {"Content-Type": "text/plain", "Content-Length": str(len(body)), **(extra or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
            """Say nothing: agents poll every second."""

    return Handler
