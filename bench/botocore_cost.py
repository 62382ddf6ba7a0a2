"""What a call costs inside botocore: signing, serialising, the connection, parsing; in processor seconds of the caller.

The calls that a tick makes, with bodies of the size that a job's have, against a server on loopback that is a process of its own and says
the same at once. What is not in it: TLS, some tens of microseconds a call once the connection stands.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from botocore.config import Config
from botocore.session import get_session

_ITEM = b'{"Item": {"pk": {"S": "JOB#x"}, "body": {"S": "%s"}}}' % (b"x" * 4000)
_ANSWERS = {
    "GetItem": (_ITEM, "application/x-amz-json-1.0"),
    "TransactWriteItems": (b"{}", "application/x-amz-json-1.0"),
    "GET": (b"x" * 700, "application/json"),
    "HEAD": (b"", "application/json"),
    "PUT": (b"", "application/json"),
}


class _Answering(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._heard = b""

    def data_received(self, data: bytes) -> None:
        self._heard += data
        while b"\r\n\r\n" in self._heard:
            head, _, rest = self._heard.partition(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            length = int(headers.get("content-length", 0))
            if len(rest) < length:
                if "expect" in headers and not rest:
                    # S3's clients wait for this word before they send a body.
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            self._heard = rest[length:]
            body, kind = _ANSWERS[headers.get("x-amz-target", "").rpartition(".")[2] or lines[0].partition(" ")[0]]
            told = f'Content-Type: {kind}\r\nContent-Length: {len(body)}\r\nETag: "x"\r\nx-amz-version-id: v\r\n'
            self._transport.write(f"HTTP/1.1 200 OK\r\n{told}\r\n".encode() + body)


def _serve(tell: Connection) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1", 0)
        tell.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def botocore_s(rounds: int = 300) -> dict[str, float]:
    """Processor seconds of one call, by service and operation as the AWS in memory names them."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    server.start()
    try:
        if not ours.poll(60):
            raise SystemExit("the server on loopback did not start; nothing is reported")
        return {name: _cost_s(call, rounds) for name, call in _calls(f"http://127.0.0.1:{ours.recv()}").items()}
    finally:
        server.terminate()
        server.join()


def _calls(url: str) -> dict[str, Callable[[], Any]]:
    keys: dict[str, Any] = {"region_name": "us-east-1", "aws_access_key_id": "testing", "aws_secret_access_key": "testing", "endpoint_url": url}
    session = get_session()
    dynamodb = session.create_client("dynamodb", **keys)
    s3 = session.create_client("s3", config=Config(s3={"addressing_style": "path"}), **keys)
    item = {"pk": {"S": "JOB#x"}, "version": {"N": "7"}, "state": {"S": "RUNNING"}, "body": {"S": "x" * 4000}}
    put = {"Put": {"TableName": "t", "Item": item, "ConditionExpression": "version = :loaded", "ExpressionAttributeValues": {":loaded": {"N": "6"}}}}
    return {
        "dynamodb.get_item": lambda: dynamodb.get_item(TableName="t", Key={"pk": {"S": "JOB#x"}}, ConsistentRead=True),
        "dynamodb.transact_write_items": lambda: dynamodb.transact_write_items(TransactItems=[put]),
        "s3.get_object": lambda: s3.get_object(Bucket="b", Key="k", Range="bytes=0-99")["Body"].read(),
        "s3.head_object": lambda: s3.head_object(Bucket="b", Key="k", ChecksumMode="ENABLED"),
        "s3.put_object": lambda: s3.put_object(Bucket="b", Key="k", Body=b"x" * 3000, ChecksumAlgorithm="SHA256"),
    }


def _cost_s(call: Callable[[], Any], rounds: int) -> float:
    call()
    began = time.process_time()
    for _ in range(rounds):
        call()
    return (time.process_time() - began) / rounds
