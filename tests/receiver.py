"""A receiver of webhooks on 127.0.0.1, over HTTP or over HTTPS with a certificate of its own making."""

import http.server
import ssl
import subprocess
import threading
from pathlib import Path
from typing import Any

HANG = 0  # among the answers: none is given until `let_go`


class Receiver(http.server.ThreadingHTTPServer):
    """Answers with the next of `answers`, 204 after the last; keeps what it was sent. `certificate`: the file that `certify` made."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.answers: list[int] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.let_go = threading.Event()
        super().__init__(("127.0.0.1", 0), _Receiving)
        self.url = f"http://127.0.0.1:{self.server_port}/hook?x=1"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)
            self.url = self.url.replace("http:", "https:")

    def handle_error(self, *_: Any) -> None:
        """A caller that hangs up, as one does that does not trust the certificate, is no fault of the receiver."""


class _Receiving(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
        answer = self.server.answers.pop(0) if self.server.answers else 204
        if answer == HANG:
            self.server.let_go.wait(60)
            return
        self.send_response(answer)
        if answer == 302:
            self.send_header("Location", self.server.url)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def certify(folder: Path, name: str) -> Path:
    """Make a certificate for 127.0.0.1 and localhost that nobody else has signed; return the file with it and its key."""
    key, certificate, both = (folder / f"{name}.{kind}" for kind in ("key", "crt", "pem"))
    asked = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    where = ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(["openssl", "req", "-x509", *asked, *where], check=True, capture_output=True)
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    return both
