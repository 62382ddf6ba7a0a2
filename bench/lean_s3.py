"""An S3 that does nothing but move bytes between sockets and files, so that what is measured of a transfer is the client.

moto's server reads the whole object for each range of it, and is then what is measured. This one knows what transfers ask for: put, get
and head (with ranges), parts, listing by prefix. It checks nothing: whoever uses it compares what came back. ``python -m bench.lean_s3
PORT-FILE FOLDER`` is the server's process.
"""

import os
import re
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

CHUNK_BYTES = 1024 * 1024
ETAG = '"0123456789abcdef0123456789abcdef"'


class _Objects(BaseHTTPRequestHandler):
    """An object is the file of its key below ``root``; metadata lie beside, under ``root/.facts``."""

    protocol_version = "HTTP/1.1"
    root: Path

    def log_message(self, *args: object) -> None:
        pass

    def _asked(self) -> tuple[Path, dict[str, list[str]]]:
        parts = urlsplit(self.path)
        return self.root / unquote(parts.path).strip("/"), parse_qs(parts.query, keep_blank_values=True)

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        path, _ = self._asked()
        if path.is_dir():
            self._answer(200)
        elif not path.is_file():
            self._answer(404)
        else:
            self._answer(200, ETag=ETAG, Content_Length=str(path.stat().st_size), Last_Modified="Sun, 01 Nov 2026 00:00:00 GMT", Accept_Ranges="bytes")

    def do_GET(self) -> None:
        path, query = self._asked()
        if "list-type" in query:
            return self._list(path, query.get("prefix", [""])[0])
        if not path.is_file():
            return self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        size = path.stat().st_size
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        first = int(wanted[1]) if wanted else 0
        last = min(int(wanted[2]), size - 1) if wanted and wanted[2] else size - 1
        headers = {"Content_Range": f"bytes {first}-{last}/{size}"} if wanted else {}
        self._answer(206 if wanted else 200, ETag=ETAG, Content_Length=str(last - first + 1), **headers)
        with path.open("rb") as file:
            while first <= last:
                first += os.sendfile(self.connection.fileno(), file.fileno(), first, last - first + 1)
        return None

    def _list(self, bucket: Path, prefix: str) -> None:
        found = sorted(path for path in bucket.rglob("*") if path.is_file() and str(path.relative_to(bucket)).startswith(prefix))
        lines = [
            f"<Contents><Key>{escape(str(path.relative_to(bucket)))}</Key><Size>{path.stat().st_size}</Size><ETag>{ETAG}</ETag>"
            "<LastModified>2026-11-01T00:00:00Z</LastModified></Contents>"
            for path in found
        ]
        self._answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(lines)}</ListBucketResult>".encode())

    def do_PUT(self) -> None:
        path, query = self._asked()
        if "uploadId" in query:
            path = self.root / ".parts" / query["uploadId"][0] / f"{int(query['partNumber'][0]):05d}"
        elif path.parent == self.root:
            path.mkdir(exist_ok=True)
            return self._answer(200)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            self._take_body(file.write)
        return self._answer(200, ETag=ETAG)

    def _take_body(self, write: object) -> None:
        assert callable(write)
        if "aws-chunked" not in self.headers.get("Content-Encoding", ""):
            return self._pass(int(self.headers.get("Content-Length", 0)), write)
        while size := int(self.rfile.readline().split(b";")[0], 16):
            self._pass(size, write)
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return None

    def _pass(self, size: int, write: object) -> None:
        assert callable(write)
        while size:
            chunk = self.rfile.read(min(size, CHUNK_BYTES))
            if not chunk:
                raise ConnectionError("the body ended early")
            size -= len(chunk)
            write(chunk)

    def do_POST(self) -> None:
        path, query = self._asked()
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "uploads" in query:
            name = uuid.uuid4().hex
            (self.root / ".parts" / name).mkdir(parents=True)
            return self._answer(200, f"<InitiateMultipartUploadResult><UploadId>{name}</UploadId></InitiateMultipartUploadResult>".encode())
        parts = sorted((self.root / ".parts" / query["uploadId"][0]).iterdir())
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as whole:
            for part in parts:
                with part.open("rb") as file:
                    while os.sendfile(whole.fileno(), file.fileno(), None, 2**30):  # type: ignore[arg-type]  # None: from where the file stands
                        pass
                part.unlink()
        return self._answer(200, f"<CompleteMultipartUploadResult><ETag>{ETAG}</ETag></CompleteMultipartUploadResult>".encode())

    def do_DELETE(self) -> None:
        path, _ = self._asked()
        path.unlink(missing_ok=True)
        self._answer(204)


def main(port_file: Path, folder: Path) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Objects", (_Objects,), {"root": folder}))
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    aside = port_file.with_suffix(".new")
    aside.write_text(str(server.server_port))
    aside.replace(port_file)


if __name__ == "__main__":
    from bench.loopback import until_orphaned

    main(Path(sys.argv[1]), Path(sys.argv[2]))
    until_orphaned()
