"""The keys of a job file about a machine of the user's own."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from cloudrun.catalog.addresses import parse_address
from cloudrun.job.spec import JobSpec
from cloudrun.protocol.words import MachineEnding
from tests.support.plans import a_plan


def a_job(**keys: Any) -> JobSpec:
    return JobSpec.model_validate({"name": "own", "infra": "ssh://lab", "data": {"source": "/d"}, **keys})


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ssh://root@connect.bjb1.seetacloud.com:12345", ("root", "connect.bjb1.seetacloud.com", 12345)),
        ("ssh://lab", (None, "lab", None)),
        ("SSH://me@10.0.0.7/", ("me", "10.0.0.7", None)),
        ("ssh://root@[2001:db8::1]:22", ("root", "2001:db8::1", 22)),
    ],
)
def test_an_address_names_user_host_and_port(text: str, parts: tuple[str | None, str, int | None]) -> None:
    address = parse_address(text)
    assert (address.user, address.host, address.port) == parts
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["ssh://", "ssh://-oProxyCommand=x", "ssh://a b", "ssh://h:99999", "ssh://h:0", "ssh://u@-h", "ssh://h/folder",
     "ssh://u:secret@h", "ssh://h;rm", "lab"],
)  # fmt: skip
def test_what_ssh_would_take_for_something_else_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="is not the address of a machine"):
        parse_address(text)


def test_a_price_is_dollars_or_says_its_currency() -> None:
    dollars, yuan = a_job(price=0.5).price, a_job(price={"hourly": 2, "currency": "cny"}).price
    own_rate = a_job(price={"hourly": 2, "currency": "CNY", "usd": 0.2}).price
    assert dollars is not None
    assert yuan is not None
    assert own_rate is not None
    assert dollars.hourly_usd == 0.5
    assert yuan.hourly_usd == pytest.approx(0.282)
    assert own_rate.hourly_usd == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"price": {"hourly": 1, "currency": "XTS"}}, "no rate is known for XTS"),
        ({"price": {"hourly": 1, "currency": "yuan"}}, "is not a currency"),
        ({"price": True}, "price"),
        ({"price": -1}, "greater than or equal to 0"),
        ({"end": " "}, "`end` is leave, shutdown, or one line of shell"),
        ({"machine": {"folder": "data"}}, "is not a path on the machine"),
        ({"machine": {"gpus": []}}, "does not name each GPU once"),
        ({"machine": {"gpus": [1, 1]}}, "does not name each GPU once"),
        ({"infra": "aws", "price": 1}, "`price`: only for a machine of your own"),
        ({"infra": "local", "end": "shutdown"}, "`end`: only for a machine of your own"),
        ({"nodes": 2}, "is one computer"),
        ({"spot": True}, "`spot` is about rented machines"),
    ],
)
def test_what_makes_no_sense_is_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        a_job(**keys)


@pytest.mark.parametrize(
    ("end", "ending", "command"),
    [
        ("leave", MachineEnding.NOBODY, None),
        ("featurize instance release", MachineEnding.COMMAND, "featurize instance release"),
    ],
)
def test_the_watchdog_is_told_what_ends_the_machine(end: str, ending: MachineEnding, command: str | None) -> None:
    plan = a_plan(infra="ssh://lab", end=end)
    order = plan.order(infra="ssh://lab", hourly_usd=0.0, billed_s=0.0, spent_usd=0.0, written_at=0.0)
    assert (order.ending, order.end_command) == (ending, command)
    assert order.ends_machine == (command is not None)
    assert not order.outlives_its_job


def test_shutdown_works_with_and_without_root() -> None:
    order = a_plan(infra="ssh://lab", end="shutdown").order(
        infra="ssh://lab", hourly_usd=0.0, billed_s=0.0, spent_usd=0.0, written_at=0.0
    )
    assert order.end_command is not None
    assert "/usr/bin/shutdown -h now" in order.end_command
    assert "sudo -n" in order.end_command
