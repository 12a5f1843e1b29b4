"""Serve on this computer a provider that has a fixed address, in a network where its name means the loopback.

    unshare -m -n python -m tests.clouds.rest_provider FOLDER vast      prints what cloudrun saw, as JSON

SkyPilot's own client is used as it is. Only the name server's answer differs (/etc/hosts of the namespace), and there
is one certificate authority more.
"""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
import threading
import urllib.parse
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Protocol

import certifi
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.clouds.faults import NoAnswer

KEY = "secret_of_the_box"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, with the key that it carries as a bearer."""

    method: str
    path: str
    query: dict[str, str]
    bearer: str
    body: Any


class Provider(Protocol):
    """A provider's account and its REST interface at `HOST`."""

    HOST: str

    def answer(self, asked: Asked) -> tuple[int, Any]:
        """Return the HTTP status and the JSON of the answer. Raises NoAnswer where the connection is to be cut."""
        ...

    def write_key(self, home: Path, key: str) -> None:
        """Write the user's key to where the provider's client reads it."""
        ...

    def look(self, home: Path) -> dict[str, Any]:
        """Use cloudrun on this account; return what it saw."""
        ...


def certificate(folder: Path, host: str) -> Path:
    """Write a certificate for `host` with its key; return the file. The certificate is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "provider.pem"
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + secret)
    return file


def serve(provider: Provider, file: Path) -> None:
    """Answer for the provider on port 443 of the loopback, with the certificate in `file`."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urllib.parse.urlsplit(self.path)
            asked = Asked(
                method=self.command,
                path=parts.path,
                query=dict(urllib.parse.parse_qsl(parts.query)),
                bearer=self.headers.get("Authorization", "").removeprefix("Bearer "),
                body=json.loads(body or b"null"),
            )
            try:
                status, content = provider.answer(asked)
            except NoAnswer:
                self.close_connection = True
                return
            said = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, format: str, *words: Any) -> None:  # noqa: A002 - its name in the base class
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 443), Answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main(folder: Path, cloud: str) -> None:
    from tests.clouds.rest_lambda import Lambda
    from tests.clouds.rest_runpod import Runpod
    from tests.clouds.rest_vast import Vast

    made: dict[str, type[Provider]] = {"lambda": Lambda, "runpod": Runpod, "vast": Vast}
    provider = made[cloud]()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {provider.HOST}\n")
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
    file = certificate(folder, provider.HOST)
    # Vast's client reads no environment: it trusts the certificates of `certifi`, here replaced by our certificate.
    subprocess.run(["mount", "--bind", str(file), certifi.where()], check=True)
    os.environ.update(HOME=str(folder), REQUESTS_CA_BUNDLE=str(file), SSL_CERT_FILE=str(file))
    os.environ.pop("XDG_CONFIG_HOME", None)
    provider.write_key(folder, KEY)
    serve(provider, file)
    print(json.dumps(provider.look(folder)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
