"""Hear of a cloud's notice that it takes a spot machine back, some time before it does.

AWS gives two minutes and GCP half a minute; both answer at an address that only the machine itself reaches. Other
clouds give none. Sources: AWS, "Spot Instance interruption notices" (`spot/instance-action`, IMDSv2); Google Cloud,
"Preemptible VM instances" (`instance/preempted`). The two environment variables are those that the clouds' own
libraries read.
"""

from __future__ import annotations

import http.client
import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable

_LOOK_EVERY_S = 5.0
_ANSWER_S = 2.0
_TOKEN_S = 21_600


def aws_takes_it_back() -> bool:
    """Return whether AWS has given notice that it takes this machine back. Raises OSError without an answer."""
    base = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://169.254.169.254").rstrip("/") + "/latest"
    ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_S)}
    token = _read(urllib.request.Request(f"{base}/api/token", method="PUT", headers=ttl)) or ""
    said = _read(
        urllib.request.Request(
            f"{base}/meta-data/spot/instance-action", headers={"X-aws-ec2-metadata-token": token.strip()}
        )
    )
    if said is None:
        return False
    try:
        action = json.loads(said)
    except ValueError:
        return False
    return isinstance(action, dict) and action.get("action") in ("terminate", "stop", "hibernate")


def gcp_takes_it_back() -> bool:
    """Return whether GCP is taking this machine back. Raises OSError where nobody answers."""
    host = os.environ.get("GCE_METADATA_HOST", "metadata.google.internal")
    url = f"http://{host}/computeMetadata/v1/instance/preempted"
    said = _read(urllib.request.Request(url, headers={"Metadata-Flavor": "Google"}))
    return said is not None and said.strip().upper() == "TRUE"


ASKED: dict[str, Callable[[], bool]] = {"aws": aws_takes_it_back, "gcp": gcp_takes_it_back}
"""By the cloud's name: the question whether it takes this machine back."""


class Notice:
    """Asks the cloud every few seconds, from a thread: no answer ever holds up the watchdog."""

    def __init__(self, cloud: str, *, every_s: float = _LOOK_EVERY_S) -> None:
        self._is_given = threading.Event()
        ask = ASKED.get(cloud)
        if ask is not None:
            threading.Thread(target=self._listen, args=(ask, every_s), name="notice", daemon=True).start()

    @property
    def is_given(self) -> bool:
        """Whether the cloud has said that it takes the machine back."""
        return self._is_given.is_set()

    def _listen(self, ask: Callable[[], bool], every_s: float) -> None:
        pause = threading.Event()
        while not self._is_given.is_set():
            try:
                if ask():
                    self._is_given.set()
            except (OSError, http.client.HTTPException, ValueError):
                pass  # the next look asks again
            pause.wait(every_s)


def _read(request: urllib.request.Request) -> str | None:
    """Return the answer; None where the address has nothing to say (404)."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy cannot reach this address
    try:
        with opener.open(request, timeout=_ANSWER_S) as answer:
            text: str = answer.read(10_000).decode("utf-8", "replace")
            return text
    except urllib.error.HTTPError as err:
        if err.code == 404:
            return None
        raise
