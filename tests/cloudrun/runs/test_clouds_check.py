"""What a check says of the clouds, by what SkyPilot remembers."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

import pytest

from cloudrun.job.job_file import load_job
from cloudrun.job.spec import JobSpec
from cloudrun.runs.clouds_check import clouds_known


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a person who has not used SkyPilot yet."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("SKY_RUNTIME_DIR", "SKYPILOT_API_SERVER_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def remember(home: Path, *clouds: str) -> None:
    (home / ".sky").mkdir(exist_ok=True)
    with sqlite3.connect(home / ".sky" / "state.db") as opened:
        opened.execute("CREATE TABLE IF NOT EXISTS config (key TEXT PRIMARY KEY, value TEXT)")
        row = ("enabled_clouds_default_compute", json.dumps(clouds))
        opened.execute("INSERT OR REPLACE INTO config VALUES (?, ?)", row)


def spec_of(home: Path, infra: str) -> JobSpec:
    path = home / "job.yaml"
    path.write_text(f"infra: {infra}\ndata: {{source: 'demo://leaves'}}\n")
    return load_job(path).spec


@pytest.mark.parametrize(
    ("enabled", "infra", "is_missing", "text"),
    [
        ([], "null", True, "no cloud is enabled, by SkyPilot's last check here"),
        ([], "runpod", True, "no cloud is enabled"),
        (["AWS", "RunPod"], "null", False, "enabled by SkyPilot's last check here: aws, runpod"),
        (["AWS", "RunPod"], "aws/us-east-1", False, "enabled by"),
        (["AWS"], "runpod", True, "`runpod` is not enabled, by SkyPilot's last check here (aws enabled)"),
    ],
)
def test_the_clouds_of_skypilots_last_check_are_said(
    home: Path, enabled: list[str], infra: str, is_missing: bool, text: str
) -> None:
    remember(home, *enabled)
    known = clouds_known(spec_of(home, infra))
    assert known is not None
    assert known.is_missing is is_missing
    assert known.text().startswith(text)


@pytest.mark.parametrize("content", [None, b"", b"no database at all, but something else that is longer than a header"])
def test_without_an_answer_nothing_is_claimed(home: Path, content: bytes | None) -> None:
    (home / ".sky").mkdir()
    if content is not None:
        (home / ".sky" / "state.db").write_bytes(content)
    known = clouds_known(spec_of(home, "null"))
    assert known is not None
    assert (known.enabled, known.is_missing) == (None, False)
    assert "is not known, since SkyPilot's check did not run here yet: `cloudrun doctor` asks" in known.text()


def test_a_server_of_skypilot_elsewhere_knows_more_than_this_computer(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(home)
    monkeypatch.setenv("SKYPILOT_API_SERVER_ENDPOINT", "http://127.0.0.1:9")
    known = clouds_known(spec_of(home, "null"))
    assert known is not None
    assert known.enabled is None


@pytest.mark.parametrize("infra", ["local", "slurm"])
def test_what_rents_nothing_needs_no_cloud(home: Path, infra: str) -> None:
    remember(home)
    assert clouds_known(spec_of(home, infra)) is None
