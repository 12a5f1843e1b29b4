"""The command `cloudrun ui`."""

from __future__ import annotations

import json
import signal
import socket
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.desk import Desk
from tests.support.shell import Shell


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_ctrl_c_and_ends_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    shell = Shell(tmp_path)
    command = shell.start("ui", "--port", "0", "--no-open")
    assert command.stdout is not None
    url = urlsplit(command.stdout.readline().strip())
    assert url.hostname == "127.0.0.1"
    assert url.port is not None
    connection = HTTPConnection("127.0.0.1", url.port, timeout=30)
    connection.request("GET", f"/?{url.query}")
    assert connection.getresponse().status == 303
    command.send_signal(number)
    out, err = command.communicate(timeout=30)
    assert (command.returncode, out) == (0, "")
    assert "no longer served; runs go on as before" in err
    assert "Traceback" not in err
    assert not tmp_path.joinpath("home").exists()  # it reads only


def test_json_is_the_address_and_the_port(tmp_path: Path) -> None:
    command = Shell(tmp_path).start("ui", "--port", "0", "--no-open", "--json")
    assert command.stdout is not None
    lines = [command.stdout.readline() for _ in range(4)]
    told = json.loads("".join(lines))
    assert set(told) == {"url", "port"}
    assert f":{told['port']}/?token=" in told["url"]
    command.send_signal(signal.SIGINT)
    assert command.wait(timeout=30) == 0
    command.communicate()


def test_a_port_that_is_taken_is_named_with_what_to_do(desk: Desk) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        typed = desk("ui", "--port", str(port), "--no-open")
    assert (typed.code, typed.out) == (2, "")
    assert f"port {port} of 127.0.0.1 cannot be used" in typed.err
    assert "hint: another one" in typed.err
