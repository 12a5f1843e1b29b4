"""`data.source: https://` and `kaggle://` as typed: checked before anything starts, fetched by the run itself.

Kaggle itself was never asked: the server here speaks its API as Kaggle's own clients do.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cloudrun.errors import JobFileError
from cloudrun.job.plan import make_plan
from cloudrun.job.spec import JobSpec
from tests.support.archives import tar_of, zip_of
from tests.support.kaggle import Kaggle
from tests.support.shell import Shell
from tests.support.source_jobs import TRAINED, checked, job_for
from tests.support.web_server import Served, WebServer


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
def server(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    """A server over TLS, whose certificate is trusted here."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    server = WebServer(certificate=certificate)
    yield server
    server.close()


@pytest.fixture
def shell(server: WebServer, shell: Shell) -> Shell:
    """Opened once the server's certificate is trusted."""
    return shell


def test_a_run_fetches_its_data_itself(shell: Shell, server: WebServer, leaves: Path) -> None:
    server.files["/leaves.zip"] = Served(zip_of(leaves, "leaves/"), cuts=[2000])
    done = shell("launch", job_for(shell.folder, f"{server.url}/leaves.zip"))
    assert done.code == 0, done.err
    assert (shell.folder / "runs" / done.out.strip() / "images.txt").read_text().strip() == "6"
    log = (shell.folder / "runs" / done.out.strip() / "log.txt").read_text()
    assert "data: the connection was cut at 2.0 kB" in log
    assert "data: 6 files unpacked" in log


def test_what_is_no_archive_is_found_before_anything_starts(shell: Shell, server: WebServer) -> None:
    server.files["/leaves.zip"] = Served(b"<!doctype html><title>Sign in</title>")
    done = shell("launch", job_for(shell.folder, f"{server.url}/leaves.zip"))
    assert done.code == 2
    assert "`data.source`" in done.err
    assert "is neither a zip nor a tar archive: it begins with `<!doctype html>" in done.err
    assert "hint: " in done.err
    assert not list((shell.home / "ledger").glob("*.json"))


def test_a_zip_is_counted_from_its_list_of_contents_alone(server: WebServer, leaves: Path, tmp_path: Path) -> None:
    (leaves / "rust" / "large.jpg").write_bytes(bytes(3_000_000))
    server.files["/leaves.zip"] = Served(zip_of(leaves, "leaves/"))
    survey = checked(tmp_path, f"{server.url}/leaves.zip")
    assert survey is not None
    assert survey.counts == {"train": {"healthy": 3, "rust": 4}}
    assert survey.as_plain()["folder"] == f"{server.url}/leaves.zip"
    ranges = [one.removeprefix("bytes=").split("-") for one in server.sent_ranges if one]
    assert len(ranges) == len(server.asked)
    assert sum(int(last) - int(first) for first, last in ranges) < 10_000


def test_what_is_not_there_is_said(server: WebServer, tmp_path: Path) -> None:
    with pytest.raises(JobFileError, match=r"leaves\.zip cannot be had: the server answers 404"):
        checked(tmp_path, f"{server.url}/leaves.zip")


def test_a_server_that_cannot_prove_who_it_is_is_not_believed(
    server: WebServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(JobFileError, match="does not prove that it is localhost"):
        checked(tmp_path, f"{server.url}/leaves.zip")


def test_a_layout_that_cannot_be_trained_on_is_found_from_here(server: WebServer, leaves: Path, tmp_path: Path) -> None:
    server.files["/leaves.zip"] = Served(zip_of(leaves / "rust"))
    with pytest.raises(JobFileError, match="at least 2 are needed"):
        checked(tmp_path, f"{server.url}/leaves.zip")


def test_an_archive_larger_than_the_disk_that_is_asked_for_is_found_from_here(
    server: WebServer, leaves: Path, tmp_path: Path
) -> None:
    server.files["/leaves.tar"] = Served(tar_of(leaves, "leaves"), claims_bytes=200 * 10**9)
    with pytest.raises(JobFileError, match=r"more than the 100 GB of `resources\.disk`") as caught:
        checked(tmp_path, f"{server.url}/leaves.tar", TRAINED.replace("local", "slurm"))
    assert "disk: 300" in caught.value.hint


def test_a_rented_machine_fetches_while_it_is_set_up() -> None:
    job = JobSpec.model_validate({"name": "t", "infra": "slurm", "data": {"source": "https://host/leaves.zip"}})
    plan = make_plan(job, "t-1124-x7k2m", python="python", base={"setup": "install all"})
    order = plan.order(infra="slurm", hourly_usd=1.0, billed_s=0, spent_usd=0, written_at=0)
    assert [step.name for step in order.setup] == ["python", "machine"]
    assert order.make_data is not None
    assert order.make_data.argv[1:4] == ["-m", "cloudrun.sources", "https://host/leaves.zip"]
    assert order.data_beside  # what comes after the first step


# --- Kaggle


@pytest.fixture
def kaggle(server: WebServer, leaves: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kaggle:
    held = {"KAGGLE_USERNAME": "ada", "KAGGLE_KEY": "key-of-ada", "KAGGLE_API_TOKEN": "", "HOME": str(tmp_path)}
    for name, value in {**held, "KAGGLE_API_ENDPOINT": server.url}.items():
        monkeypatch.setenv(name, value)
    kaggle = Kaggle(server, zip_of(leaves))
    server.files["/storage/archive.zip?signed=1"] = server.files["/storage/archive.zip"]
    return kaggle


@pytest.mark.parametrize("source", ["kaggle://competitions/plants", "kaggle://datasets/ada/leaves"])
def test_a_run_fetches_from_kaggle_with_the_users_own_token(
    kaggle: Kaggle, shell: Shell, server: WebServer, source: str
) -> None:
    done = shell("launch", job_for(shell.folder, source))
    assert done.code == 0, done.err
    assert (shell.folder / "runs" / done.out.strip() / "images.txt").read_text().strip() == "6"
    assert {one.authorization for one in server.asked if one.path.startswith("/storage/")} == {None}
    assert "key-of-ada" not in done.err + "".join(path.read_text() for path in (shell.home / "ledger").glob("*.json"))


@pytest.mark.parametrize("name", ["kaggle.json", "access_token"])
def test_the_files_of_kaggles_own_clients_are_used(
    kaggle: Kaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for variable in ("KAGGLE_USERNAME", "KAGGLE_KEY"):
        monkeypatch.setenv(variable, "")
    (tmp_path / ".kaggle").mkdir()
    held = {"kaggle.json": '{"username": "ada", "key": "key-of-ada"}', "access_token": "token-of-ada\n"}[name]
    (tmp_path / ".kaggle" / name).write_text(held)
    survey = checked(tmp_path, "kaggle://datasets/ada/leaves")
    assert survey is not None
    assert survey.counts == {"train": {"healthy": 3, "rust": 3}}


@pytest.mark.parametrize(
    ("key", "source", "said"),
    [
        ("key-of-ada", "kaggle://competitions/plants", "its rules are not accepted yet"),
        ("wrong", "kaggle://datasets/ada/leaves", r"does not accept this token \(HTTP 401\)"),
        ("", "kaggle://datasets/ada/leaves", "there is no token for Kaggle here"),
        ("key-of-ada", "kaggle://datasets/ada/nothing", "Kaggle has no kaggle://datasets/ada/nothing"),
    ],
)
def test_what_kaggle_refuses_is_said_with_the_page_that_helps(
    kaggle: Kaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, source: str, said: str
) -> None:
    kaggle.accepted = False
    monkeypatch.setenv("KAGGLE_KEY", key)
    with pytest.raises(JobFileError, match=said) as caught:
        checked(tmp_path, source)
    assert "https://www.kaggle.com/" in caught.value.hint


def test_a_rented_machine_gets_the_token_only_where_secrets_names_it(kaggle: Kaggle, tmp_path: Path) -> None:
    rented = TRAINED.replace("local", "slurm")
    with pytest.raises(JobFileError, match="`secrets` does not name KAGGLE_USERNAME, KAGGLE_KEY") as caught:
        checked(tmp_path, "kaggle://competitions/plants", rented)
    assert "add `secrets: [KAGGLE_USERNAME, KAGGLE_KEY]`" in caught.value.hint
    assert checked(tmp_path, "kaggle://competitions/plants", rented, secrets="KAGGLE_USERNAME, KAGGLE_KEY")
