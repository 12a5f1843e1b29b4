"""`notify` of a job file, with the real worker on this computer: who is told what, and where the address lies."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.chat_server import SECRET, ChatServer
from tests.support.desk import Desk
from tests.support.mailbox import Mailbox
from tests.support.shell import Shell

JOB = "name: told\ninfra: local\ndata: {source: .}\n"
SAVED = "  mkdir -p $CLOUDRUN_OUTPUT/checkpoints\n  echo weights > $CLOUDRUN_OUTPUT/checkpoints/last.pt\n"


@pytest.fixture
def chats() -> Iterator[ChatServer]:
    server = ChatServer()
    yield server
    server.close()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def events(chats: ChatServer) -> list[str]:
    return [posted.json["event"] for posted in chats.posted]


def holding(shell: Shell, text: str) -> list[Path]:
    files = [path for path in shell.folder.rglob("*") if path.is_file() and path != shell.folder / "job.yaml"]
    return [path for path in files if text.encode() in path.read_bytes()]


def test_a_run_tells_of_its_start_first_validation_and_end(shell: Shell, chats: ChatServer) -> None:
    shell.env["HOOK"] = f"{chats.url}/secret-token"
    row = '{"kind": "val", "epoch": 1, "accuracy": 0.75, "time": "2026-11-24T12:00:00Z"}'
    run = f"echo '{row}' > $CLOUDRUN_OUTPUT/metrics.jsonl; env > $CLOUDRUN_OUTPUT/environment; unset HOOK"
    launched = shell("launch", "--yes", "--notify", "$HOOK", shell.job(f"{JOB}run: |\n  {run}\n"))
    assert launched.code == 0, launched.err
    assert "notify   $HOOK" in launched.err
    assert events(chats) == ["started", "validated", "finished"]
    assert chats.posted[1].json["text"] == "first validation, epoch 1: accuracy 0.75"
    assert chats.posted[2].json["run_id"] == launched.out.strip()
    (environment,) = shell.folder.glob("runs/*/environment")
    assert "CLOUDRUN_NOTICES_TO" not in environment.read_text()
    assert holding(shell, "secret-token") == [environment]  # this shell's own variable, on this computer


def test_a_run_that_fails_tells_why_in_a_signed_message(shell: Shell, chats: ChatServer) -> None:
    shell.env |= {"DING": f"{chats.url}/dingtalk?access_token=TOKEN", "DING_SECRET": SECRET}
    channel = "notify: [{kind: dingtalk, url: $DING, secret: $DING_SECRET, events: [failed]}]\n"
    launched = shell("launch", "--yes", shell.job(f"{JOB}{channel}run: \"echo 'error: no such class'; exit 3\"\n"))
    assert launched.code == 1
    (posted,) = chats.posted
    assert "the job ended with exit code 3: no such class" in posted.json["text"]["content"]
    assert "cannot notify" not in shell("logs", "--no-follow").out


def test_a_run_that_is_stopped_by_its_budget_tells_by_mail(shell: Shell) -> None:
    mailbox = Mailbox()
    shell.env["MAIL"] = f"smtp://127.0.0.1:{mailbox.port}?to=you@example.org&from=me@example.org"
    job = f"{JOB}notify: $MAIL\nbudget: {{max_hours: 0.001}}\nrun: sleep 60\n"
    launched = shell("launch", "--yes", shell.job(job))
    mailbox.close()
    assert launched.code == 4, launched.err
    assert "Subject: cloudrun: told-" in mailbox.mails[-1]
    assert mailbox.mails[-1].partition("\n\n")[2].startswith("told-")
    assert "the budget is used" in mailbox.mails[-1]


def test_a_channel_that_takes_nothing_is_named_in_the_log_once_and_changes_no_result(
    shell: Shell, chats: ChatServer
) -> None:
    chats.statuses = [404] * 9
    shell.env |= {"HOOK": f"{chats.url}/secret-token", "ALSO": "http://127.0.0.1:1/other-token"}
    job = shell.job(f"{JOB}notify: [$HOOK, $ALSO]\nlifecycle: {{on_finish: keep}}\nrun: sleep 1.5\n")
    launched = shell("launch", "--yes", job)
    assert launched.code == 0, launched.err
    log = next((shell.home / "local").glob("*/log.txt")).read_text()
    assert log.count("cannot notify json at 127.0.0.1: HTTP 404; the run goes on without it") == 1
    assert "-token" not in log
    assert shell("down").code == 0


def test_a_channel_that_never_answers_keeps_no_run_waiting(shell: Shell, chats: ChatServer) -> None:
    shell.env["HOOK"] = f"{chats.url}/x"
    job = shell.job(f"{JOB}notify: $HOOK\nrun: 'true'\n")
    chats.hangs_s = 600.0
    launched = shell("launch", "--yes", job)
    assert launched.code == 0, launched.err
    assert len(chats.posted) > 0
    assert shell("ps", "--json").json == []


def test_an_address_in_the_job_file_is_kept_for_resume_and_shown_nowhere(shell: Shell, chats: ChatServer) -> None:
    job = shell.job(f"{JOB}notify: {chats.url}/secret-token\nrun: |\n{SAVED}  exit 75\n")
    launched = shell("launch", "--yes", job)
    (kept,) = holding(shell, "secret-token")
    assert kept.parent == shell.home / "notify"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert "secret-token" not in launched.out + launched.err
    first = len(chats.posted)
    resumed = shell("resume", "--yes", next((shell.home / "ledger").glob("*.json")).stem)
    assert "notify   127.0.0.1" in resumed.err
    assert events(chats)[first:] == ["started", "stopped"]
    assert holding(shell, "secret-token") == [kept]


def test_check_says_who_is_told_and_notify_sends_a_trial(
    desk: Desk, chats: ChatServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("job.yaml").write_text(f"{JOB}notify: $HOOK\nrun: 'true'\n")
    missing = desk("check", "job.yaml")
    assert missing.code == 2
    assert missing.err.startswith("error: `notify` names HOOK, which this shell does not have")
    monkeypatch.setenv("HOOK", f"{chats.url}/secret-token")
    assert "notify: json at 127.0.0.1: started, validated, budget 80" in desk("check", "job.yaml").out
    assert desk("notify", "--json", "job.yaml").json[0]["host"] == "127.0.0.1"
    assert chats.posted == []
    assert desk("notify", "--test", "job.yaml").out == "json at 127.0.0.1: delivered\n"
    assert events(chats) == ["test"]
    chats.statuses = [410]
    refused = desk("notify", "--test", "job.yaml")
    assert (refused.code, refused.err) == (1, "warning: json at 127.0.0.1: not delivered: HTTP 410\n")


@pytest.mark.parametrize(
    ("notify", "message"),
    [
        ("5", "`notify` is an address, a `$NAME`, a mapping with `url`, or a list of these"),
        ("{url: [https://a.org/secret-token]}", "`notify` is an address, a `$NAME`, a mapping with `url`"),
        ("{https://a.org/secret-token: 1}", "`notify` is an address, a `$NAME`, a mapping with `url`"),
        ("a.org/secret-token", "an address begins with https://"),
        ("{url: $A, secret: secret-token}", "a `secret` stands in no job file"),
        ("{url: $A, kind: teams}", "`notify.0.kind` is"),
        ("{url: $A, event: [failed]}", "unknown key `event`"),
        ("{url: $A, events: [done]}", '"done" is no event; use started, validated'),
        ("{kind: slack}", "`notify.0.url` is missing"),
        ("'smtp://a%40b.org:secret-token@m.org?to=c@d.org'", "an address holds a password"),
    ],
)
def test_a_wrong_notify_is_named_and_its_address_is_not_shown(desk: Desk, notify: str, message: str) -> None:
    Path("job.yaml").write_text(f"{JOB}notify: {notify}\nrun: 'true'\n")
    for words in (("check", "job.yaml"), ("check", "job.yaml", "--json"), ("notify", "job.yaml")):
        said = desk(*words)
        assert said.code == 2, said.err
        assert "secret-token" not in said.out + said.err
    assert message in desk("check", "job.yaml").err
    Path("job.yaml").write_text(f"{JOB}run: 'true'\n")
    assert "secret-token" not in desk("check", "job.yaml", "--set", f"notify={notify}").err


def test_a_job_without_notify_has_nobody_to_tell(desk: Desk) -> None:
    Path("job.yaml").write_text(f"{JOB}run: 'true'\n")
    said = desk("notify", "job.yaml")
    assert (said.code, said.err.splitlines()[0]) == (2, "error: job.yaml has no `notify`")
