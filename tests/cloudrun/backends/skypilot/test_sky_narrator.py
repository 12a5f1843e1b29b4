"""While a machine is rented, a person sees what is tried; the log keeps all of it."""

from __future__ import annotations

import io

from cloudrun.backends.skypilot.narrator import Narrator

SAID = (
    "Considered resources (1 node):\n"
    " INFRA   INSTANCE   GPUS\n"
    "\x1b[33m⚙︎ Launching on AWS us-east-1 (us-east-1a).\x1b[0m\n"
    "\x1b[31m⨯ Failed to acquire resources in us-east-1a\x1b[0m for A100:1.\n"
    "Trying other potential resources.\n"
    "└── Instance is up.\n"
)


def test_what_is_tried_is_said_and_the_rest_is_logged() -> None:
    said: list[str] = []
    log = io.StringIO()
    narrator = Narrator(said.append, log)
    for place in range(0, len(SAID), 7):  # pieces as they come over a connection
        narrator.write(SAID[place : place + 7])
    assert said == [
        "SkyPilot: Launching on AWS us-east-1 (us-east-1a).",
        "SkyPilot: Failed to acquire resources in us-east-1a for A100:1.",
        "SkyPilot: Trying other potential resources.",
        "SkyPilot: Instance is up.",
    ]
    assert log.getvalue() == SAID
