"""A provider with a fixed address, answered on this computer: in a network where its name is the loopback's.

    unshare -m -n python -m tests.clouds.rest_provider FOLDER lambda      prints what cloudrun saw, as JSON

SkyPilot's own client is used as it is; what differs is the name server's answer (/etc/hosts of the namespace) and one
certificate authority more.
"""

from __future__ import annotations

import dataclasses
import json
import os
import ssl
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HOST = "cloud.lambdalabs.com"
KEY = "secret_of_the_box"


@dataclasses.dataclass
class Lambda:
    """The instances of an account: machines of ours, of somebody else, and one without a name."""

    names: dict[str, str | None] = dataclasses.field(
        default_factory=lambda: {
            "0920582c7ff041399e34823a0be62549": "cloudrun-leaves-1127-abcde-12345678-head",
            "0920582c7ff041399e34823a0be62550": "somebody-elses",
            "0920582c7ff041399e34823a0be62551": None,
        }
    )
    throttled: int = 1

    def answer(self, method: str, path: str, key: str, body: Any) -> tuple[int, Any]:
        if key != f"Bearer {KEY}":
            return 401, {"error": {"code": "global/invalid-api-key", "message": "API key was invalid"}}
        if self.throttled:
            self.throttled -= 1
            return 429, {"error": {"code": "global/rate-limited", "message": "too many requests"}}
        if (method, path) == ("GET", "/api/v1/instances"):
            return 200, {"data": [self._shown(identity) for identity in self.names]}
        if (method, path) == ("POST", "/api/v1/instance-operations/terminate"):
            ended = [self._shown(identity) for identity in body["instance_ids"]]
            for identity in body["instance_ids"]:
                del self.names[identity]
            return 200, {"data": {"terminated_instances": ended}}
        return 404, {"error": {"code": "global/object-does-not-exist", "message": path}}

    def _shown(self, identity: str) -> dict[str, Any]:
        shown = {"id": identity, "status": "active", "ip": "127.0.0.9", "region": {"name": "us-east-1"}}
        name = self.names[identity]
        return shown | ({"name": name} if name else {})


def certificate(folder: Path) -> Path:
    """Write a certificate for HOST with its key; it is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    file = folder / "provider.pem"
    file.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + secret)
    return file


def serve(provider: Lambda, file: Path) -> None:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, content = provider.answer(
                self.command, self.path, self.headers.get("Authorization", ""), json.loads(body or b"null")
            )
            said = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_POST = do_GET  # noqa: N815

        def log_message(self, format: str, *words: Any) -> None:  # noqa: A002 - its name in the base class
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 443), Answer)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main(folder: Path, cloud: str) -> None:
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    hosts = folder / "hosts"
    hosts.write_text(f"127.0.0.1 localhost {HOST}\n")
    subprocess.run(["mount", "--bind", str(hosts), "/etc/hosts"], check=True)
    file = certificate(folder)
    os.environ.update(HOME=str(folder), REQUESTS_CA_BUNDLE=str(file))
    (folder / ".lambda_cloud").mkdir()
    (folder / ".lambda_cloud/lambda_keys").write_text(f"api_key = {KEY}\n")
    serve(Lambda(), file)

    from cloudrun.backends.listing import CannotList, end_machine, list_machines

    seen = list_machines(cloud)
    for machine in seen:
        end_machine(machine)
    left = list_machines(cloud)
    (folder / ".lambda_cloud/lambda_keys").write_text("api_key = another\n")
    refused = ""
    try:
        list_machines(cloud)
    except CannotList as err:
        refused = str(err)
    named = [[machine.name, machine.run_id, machine.handle] for machine in seen]
    print(json.dumps({"seen": named, "left": [machine.name for machine in left], "refused": refused}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
