"""Who may read the pages."""

from __future__ import annotations

import pytest

from cloudrun.ui.access import Access, is_embedded_elsewhere, is_our_host


@pytest.mark.parametrize(
    ("hosts", "is_ours"),
    [
        (["127.0.0.1:8717"], True),
        (["localhost:8717"], True),
        (["LOCALHOST"], True),
        (["127.0.0.1:9999"], True),  # the near end of a tunnel
        (["evil.example:8717"], False),  # a name that was pointed at this computer
        (["127.0.0.1.evil.example"], False),
        (["127.0.0.1:8717@evil.example"], False),
        (["localhost:"], True),
        (["0.0.0.0:8717"], False),
        ([""], False),
        ([], False),
        (["127.0.0.1", "evil.example"], False),
    ],
)
def test_only_names_of_the_loopback_are_answered(hosts: list[str], is_ours: bool) -> None:
    assert is_our_host(hosts) is is_ours


def test_each_server_has_a_token_of_its_own_that_no_log_shows() -> None:
    one, other = Access(8717), Access(8717)
    assert one.token != other.token
    assert len(one.token) >= 43
    assert one.token not in repr(one)
    assert one.is_token(one.token)
    assert not one.is_token(other.token)
    assert not one.is_token("")
    assert not one.is_token("ä")


def test_the_cookie_is_found_among_those_of_other_servers() -> None:
    access = Access(8717)
    cookie = access.cookie.partition(";")[0]
    assert access.has_cookie(cookie)
    assert access.has_cookie(f'a={{"odd": 1}}; _xsrf=2|x; {cookie}; b=')
    assert not access.has_cookie("")
    assert not access.has_cookie(cookie.replace("8717", "8718"))
    assert not access.has_cookie(f"{cookie}x")
    assert not access.has_cookie(f"{'a' * 20_000}; {cookie}")


@pytest.mark.parametrize(
    ("site", "mode", "is_refused"),
    [
        ("none", "navigate", False),
        ("same-origin", "cors", False),
        ("cross-site", "navigate", False),  # a link that somebody followed
        ("cross-site", "no-cors", True),
        ("same-site", "cors", True),  # another port of this computer
        (None, None, False),
    ],
)
def test_what_other_sites_embed_is_refused(site: str | None, mode: str | None, is_refused: bool) -> None:
    assert is_embedded_elsewhere(site, mode) is is_refused
