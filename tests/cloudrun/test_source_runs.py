"""`data.source: https://` and `kaggle://` as typed: checked before anything starts, fetched by the run itself.

Kaggle itself was never asked: the server here speaks its API as Kaggle's own clients do.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cloudrun.test_sources import zip_of
from tests.conftest import Shell
from tests.web_server import Handler, Served, WebServer

JOB = """\
name: fetched
infra: local
data: {source: "SOURCE"}
run: |
  find $CLOUDRUN_DATA -name "*.jpg" | wc -l > $CLOUDRUN_OUTPUT/images.txt
"""
TRAINED = JOB.partition("run:")[0]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of `localhost`, by itself; SkyPilot brings what makes it."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("certificate") / "localhost.pem"
    path.write_bytes(made.public_bytes(pem) + private)
    return path


@pytest.fixture
def server(certificate: Path, shell: Shell) -> Iterator[WebServer]:
    """A server over TLS, whose certificate the shell trusts."""
    shell.env["SSL_CERT_FILE"] = str(certificate)
    server = WebServer(certificate=certificate)
    yield server
    server.close()


def job_for(shell: Shell, source: str, text: str = JOB) -> str:
    return shell.job(text.replace("SOURCE", source))


def test_a_run_fetches_its_data_itself(shell: Shell, server: WebServer, leaves: Path) -> None:
    server.files["/leaves.zip"] = Served(zip_of(leaves, "leaves/"), cuts=[2000])
    done = shell("launch", job_for(shell, f"{server.url}/leaves.zip"))
    assert done.code == 0, done.err
    assert (shell.folder / "runs" / done.out.strip() / "images.txt").read_text().strip() == "6"
    log = (shell.folder / "runs" / done.out.strip() / "log.txt").read_text()
    assert "data: the connection was cut at 2.0 kB" in log
    assert "data: 6 files unpacked" in log


def test_a_zip_is_counted_from_its_list_of_contents_alone(shell: Shell, server: WebServer, leaves: Path) -> None:
    (leaves / "rust" / "large.jpg").write_bytes(bytes(3_000_000))
    server.files["/leaves.zip"] = Served(zip_of(leaves, "leaves/"))
    checked = shell("check", job_for(shell, f"{server.url}/leaves.zip", TRAINED))
    assert checked.code == 0, checked.err
    assert checked.out.splitlines()[:3] == ["CLASS    train", "healthy  3", "rust     4"]
    assert all(one.range is not None for one in server.asked)
    assert sum(int(r.split("-")[1]) - int(r.split("=")[1].split("-")[0]) for r in server.sent_ranges if r) < 10_000


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!doctype html><title>Sign in</title>", "is no zip and no tar archive: it begins with `<!doctype html>"),
        (None, "cannot be had: the server answers 404"),
    ],
)
def test_what_is_no_archive_is_found_before_anything_starts(
    shell: Shell, server: WebServer, content: bytes | None, said: str
) -> None:
    if content is not None:
        server.files["/leaves.zip"] = Served(content)
    done = shell("launch", job_for(shell, f"{server.url}/leaves.zip"))
    assert (done.code, said in done.err) == (2, True)
    assert "`data.source`" in done.err
    assert "hint: " in done.err
    assert not list((shell.home / "ledger").glob("*.json"))


def test_a_server_that_cannot_prove_who_it_is_is_not_believed(shell: Shell, server: WebServer) -> None:
    del shell.env["SSL_CERT_FILE"]
    done = shell("check", job_for(shell, f"{server.url}/leaves.zip"))
    assert (done.code, "does not prove that it is localhost" in done.err) == (2, True)


def test_a_layout_that_cannot_be_trained_on_is_found_from_here(shell: Shell, server: WebServer, leaves: Path) -> None:
    server.files["/leaves.zip"] = Served(zip_of(leaves / "rust"))
    done = shell("check", job_for(shell, f"{server.url}/leaves.zip", TRAINED))
    assert (done.code, "it takes at least 2 to tell apart" in done.err) == (2, True)


# --- Kaggle


class Kaggle:
    """Its API for one account: a competition whose rules are or are not accepted, and a data set."""

    def __init__(self, server: WebServer, archive: bytes) -> None:
        self.accepted = True
        self._server = server
        server.files["/storage/archive.zip"] = Served(archive)
        server.route = self._answer

    def _answer(self, handler: Handler) -> bool:
        path, _, query = handler.path.partition("?")
        if not path.startswith("/api/v1/"):
            return False
        basic = base64.b64encode(b"ada:key-of-ada").decode()
        if handler.headers.get("Authorization") not in (f"Basic {basic}", "Bearer token-of-ada"):
            return self._json(handler, 401, {"code": 401, "message": "Unauthenticated"})
        if "/competitions/" in path and not self.accepted:
            return self._json(handler, 403, {"code": 403, "message": "You must accept this competition's rules"})
        listed = [{"name": "train/rust/1.jpg", "totalBytes": 9, "creationDate": "2026-01-01T00:00:00Z"}]
        match path.removeprefix("/api/v1/"):
            case "competitions/data/list/plants":
                return self._json(handler, 200, {"files": listed, "nextPageToken": "more"})
            case "datasets/list/ada/leaves":
                return self._json(handler, 200, {"datasetFiles": listed, "nextPageToken": ""})
            case "competitions/data/download-all/plants" | "datasets/download/ada/leaves":
                handler.answer(302, b"", Location=f"{self._server.url}/storage/archive.zip?{query}signed=1")
                return True
        return self._json(handler, 404, {"code": 404, "message": "Not found"})

    @staticmethod
    def _json(handler: Handler, status: int, body: dict[str, object]) -> bool:
        handler.answer(status, json.dumps(body).encode(), Content_Type="application/json")
        return True


@pytest.fixture
def kaggle(shell: Shell, server: WebServer, leaves: Path) -> Kaggle:
    shell.env.update(KAGGLE_API_ENDPOINT=server.url, KAGGLE_USERNAME="ada", KAGGLE_KEY="key-of-ada")
    kaggle = Kaggle(server, zip_of(leaves))
    server.files["/storage/archive.zip?signed=1"] = server.files["/storage/archive.zip"]
    return kaggle


@pytest.mark.parametrize("source", ["kaggle://competitions/plants", "kaggle://datasets/ada/leaves"])
def test_a_run_fetches_from_kaggle_with_the_users_own_token(
    shell: Shell, server: WebServer, kaggle: Kaggle, source: str
) -> None:
    done = shell("launch", job_for(shell, source))
    assert done.code == 0, done.err
    assert (shell.folder / "runs" / done.out.strip() / "images.txt").read_text().strip() == "6"
    assert {one.authorization for one in server.asked if one.path.startswith("/storage/")} == {None}
    assert "key-of-ada" not in done.err + "".join(path.read_text() for path in (shell.home / "ledger").glob("*.json"))


@pytest.mark.parametrize("name", ["kaggle.json", "access_token"])
def test_the_files_of_kaggles_own_clients_are_used(shell: Shell, kaggle: Kaggle, name: str) -> None:
    del shell.env["KAGGLE_USERNAME"], shell.env["KAGGLE_KEY"]
    (shell.folder / ".kaggle").mkdir()
    held = {"kaggle.json": '{"username": "ada", "key": "key-of-ada"}', "access_token": "token-of-ada\n"}[name]
    (shell.folder / ".kaggle" / name).write_text(held)
    assert shell("check", job_for(shell, "kaggle://datasets/ada/leaves", TRAINED)).code == 0


@pytest.mark.parametrize(
    ("change", "source", "said"),
    [
        ({}, "kaggle://competitions/plants", "accept its rules at https://www.kaggle.com/competitions/plants/rules"),
        ({"KAGGLE_KEY": "wrong"}, "kaggle://datasets/ada/leaves", "does not accept this token (HTTP 401)"),
        ({"KAGGLE_KEY": ""}, "kaggle://datasets/ada/leaves", "there is no token for Kaggle here"),
        ({}, "kaggle://datasets/ada/nothing", "Kaggle has no kaggle://datasets/ada/nothing"),
    ],
)
def test_what_kaggle_refuses_is_said_before_anything_starts(
    shell: Shell, kaggle: Kaggle, change: dict[str, str], source: str, said: str
) -> None:
    kaggle.accepted = False
    shell.env.update(change)
    done = shell("launch", job_for(shell, source))
    assert (done.code, said in done.err) == (2, True), done.err
    assert not list((shell.home / "ledger").glob("*.json"))


def test_a_rented_machine_gets_the_token_only_where_secrets_names_it(shell: Shell, kaggle: Kaggle) -> None:
    job = job_for(shell, "kaggle://competitions/plants", TRAINED.replace("local", "slurm"))
    done = shell("check", job)
    assert (done.code, "`secrets` does not name KAGGLE_USERNAME, KAGGLE_KEY" in done.err) == (2, True), done.err
    assert "add `secrets: [KAGGLE_USERNAME, KAGGLE_KEY]`" in done.err
    assert shell("check", job, "--set", "secrets=[KAGGLE_USERNAME, KAGGLE_KEY]").code == 0
