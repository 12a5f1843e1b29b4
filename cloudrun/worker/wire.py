"""Let the machines of a run talk: HTTP over TLS, in which both sides show the one certificate made for the run.

Nobody else on their network can listen in, ask for the data, or pass for one of them.
"""

from __future__ import annotations

import http.client
import json
import ssl
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

from cloudrun.protocol.timing import NODE_REQUEST_S

LARGEST_MESSAGE_BYTES = 1_000_000
# The last member of a folder's tar, with the number of files: a tar without it has broken off.
_COUNT = ".cloudrun-count"


class NotWhole(Exception):
    """A folder did not arrive whole."""


def server_context(pem: Path) -> ssl.SSLContext:
    """Return the head's TLS context, which trusts the run's certificate alone; `pem` has it and its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    return _trusting_only(context, pem)


def _client_context(pem: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the certificate itself is trusted, at whatever address
    return _trusting_only(context, pem)


def _trusting_only(context: ssl.SSLContext, pem: Path) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(pem)
    context.load_verify_locations(pem)
    return context


class Line:
    """Sends requests to the head of the run at one address. Methods raise OSError where the head cannot be reached."""

    def __init__(self, pem: Path, host: str, port: int) -> None:
        self._context = _client_context(pem)
        self._host, self._port = host, port

    def tell(self, path: str, message: dict[str, Any]) -> dict[str, Any]:
        """POST a message to `path`; return the head's answer."""
        with self._request("POST", path, json.dumps(message).encode()) as answer:
            told = json.loads(answer.read(LARGEST_MESSAGE_BYTES))
        if not isinstance(told, dict):
            raise OSError(f"{self._host}:{self._port} answers what is no message")
        return told

    def fetch(self, path: str, folder: Path) -> int:
        """Copy the head's folder at `path` into `folder`; return the number of files. Raises NotWhole."""
        with self._request("GET", path, None) as answer:
            return read_tar(answer, folder)

    @contextmanager
    def _request(self, method: str, path: str, body: bytes | None) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPSConnection(self._host, self._port, timeout=NODE_REQUEST_S, context=self._context)
        try:
            connection.request(method, path, body=body)
            answer = connection.getresponse()
            if answer.status != 200:
                raise OSError(f"{self._host}:{self._port} answers {answer.status} to {path}")
            yield answer
        except (http.client.HTTPException, ValueError) as err:
            if isinstance(err, OSError):  # some of ssl's are ValueErrors, too
                raise
            raise OSError(f"{self._host}:{self._port} answers what is not understood: {err!r}") from err
        finally:
            connection.close()


def write_tar(folder: Path, stream: IO[bytes]) -> None:
    """Write all files of `folder` as a tar, named by their paths in it; the last member is their number."""
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, bufsize=1 << 20) as tar:
        count = 0
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = tarfile.TarInfo(str(path.relative_to(folder)))
            with path.open("rb") as file:
                entry.size = path.stat().st_size
                tar.addfile(entry, file)
            count += 1
        last = tarfile.TarInfo(_COUNT)
        text = str(count).encode()
        last.size = len(text)
        tar.addfile(last, BytesIO(text))


def read_tar(stream: IO[bytes], folder: Path) -> int:
    """Write the files of a tar of `write_tar` into `folder`; return their number.

    Raises NotWhole where the tar breaks off, or has something else than files, or a name that leads out of `folder`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count, said = 0, None
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=1 << 20) as tar:
            for entry in tar:
                content = tar.extractfile(entry)
                if content is None:
                    raise NotWhole(f"{entry.name} is not a file")
                if entry.name == _COUNT:
                    said = int(content.read())
                    continue
                _write(content, _inside(folder, entry.name))
                count += 1
    except tarfile.TarError as err:
        raise NotWhole(f"it broke off after {count} files: {err}") from err
    if said != count:
        raise NotWhole(f"{count} files came of {'an unknown number' if said is None else said}")
    return count


def _inside(folder: Path, name: str) -> Path:
    path = Path(name)
    if path.is_absolute() or ".." in path.parts:
        raise NotWhole(f"{name} leads out of the folder")
    return folder / path


def _write(content: IO[bytes], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        while block := content.read(1 << 20):
            file.write(block)
