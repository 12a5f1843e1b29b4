"""A submission through Kaggle's own client, to a server of the tests that answers as the client expects."""

from __future__ import annotations

import base64
import json
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from cloudrun.runs.kaggle_upload import UploadFailed, submit_to_kaggle

PORT = 80  # on this computer the client can be told no other


class Competition(ThreadingHTTPServer):
    """Kaggle for one competition: takes a file, and then a submission that names it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", PORT), Answers)
        self.daemon_threads = True
        self.uploaded = b""
        self.submitted: list[dict[str, object]] = []
        self.tokens: set[str | None] = set()


class Answers(BaseHTTPRequestHandler):
    server: Competition

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
        self.server.tokens.add(self.headers["Authorization"])
        if asked.get("competitionName") != "plants":
            return self._json(404, {"code": 404, "message": "Not found"})
        if self.path.endswith("/StartSubmissionUpload"):
            return self._json(200, {"token": "file-1", "createUrl": "http://localhost/storage/1"})
        if self.path.endswith("/CreateSubmission"):
            self.server.submitted.append(asked)
            return self._json(200, {"message": "Successfully submitted to plants", "ref": 41})
        return self._json(404, {"code": 404, "message": "Not found"})

    def do_PUT(self) -> None:
        self.server.uploaded = self.rfile.read(int(self.headers["Content-Length"]))
        self._json(200, {})

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def _json(self, status: int, body: dict[str, object]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def kaggle(monkeypatch: pytest.MonkeyPatch) -> Iterator[Competition]:
    try:
        server = Competition()
    except OSError:
        pytest.skip(f"port {PORT} is taken, or not for this user")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
    # A user name and key: to check a token, the client asks Kaggle itself, whatever it is told.
    monkeypatch.delenv("KAGGLE_API_TOKEN", raising=False)
    monkeypatch.setenv("KAGGLE_USERNAME", "ada")
    monkeypatch.setenv("KAGGLE_KEY", "key-of-ada")
    monkeypatch.setenv("NO_PROXY", "localhost")
    if shutil.which("uv") is None:
        monkeypatch.setenv("PATH", str(Path(__file__).parents[3] / ".uv" / "bin"), prepend=os.pathsep)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.slow
def test_the_file_arrives_and_is_submitted(kaggle: Competition, tmp_path: Path) -> None:
    file = tmp_path / "submission.csv"
    file.write_text("image_id,label\na,rust\n")
    home = tmp_path / "home"
    said = submit_to_kaggle(file, competition="plants", message="folds, flipped", home=home, say=lambda _: None)
    assert "Successfully submitted to plants" in said
    assert "Submission ref: 41" in said
    assert kaggle.uploaded == file.read_bytes()
    (submitted,) = kaggle.submitted
    assert submitted["blobFileTokens"] == "file-1"
    assert submitted["submissionDescription"] == "folds, flipped"
    assert kaggle.tokens == {f"Basic {base64.b64encode(b'ada:key-of-ada').decode()}"}
    with pytest.raises(UploadFailed, match=r"did not take .* for absent: .*Could not find competition"):
        submit_to_kaggle(file, competition="absent", message="x", home=home, say=lambda _: None)
    assert len(kaggle.submitted) == 1
