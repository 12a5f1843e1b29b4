"""The job file's `notify`: whom to tell how a run goes, where the addresses come from, and what may be shown of them.

An address of a webhook is a secret. One that stands in the job file, and not in a variable, is kept in a file of its
owner alone below `$CLOUDRUN_HOME`, and named by its hash wherever a job is written down.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_serializer, model_validator

from cloudrun.errors import JobFileError
from cloudrun.files import atomic
from cloudrun.files.untrusted import read_regular
from cloudrun.notices.channel import EVENTS, VARIABLE, BadAddress, Channel, Event, Kind, as_text, channel_of
from cloudrun.state.home import home_folder

_VARIABLE = re.compile(r"\$\{?([A-Za-z_][A-Za-z0-9_]*)\}?|secret:([A-Za-z_][A-Za-z0-9_]*)")
_KEPT = re.compile(r"kept:([0-9a-f]{32})@([A-Za-z0-9.:_-]*)")
_LONGEST_ADDRESS = 4000

KindName = Literal["slack", "discord", "feishu", "dingtalk", "wecom", "ntfy", "json", "email", "desktop"]


def _check_event(name: str) -> str:
    names = [event.value for event in EVENTS]
    if name not in names:
        raise ValueError(f'"{name}" is no event; use {", ".join(names)}')
    return name


class Notify(BaseModel):
    """An address that is told how a run goes; a text alone is the `url`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: Annotated[str, Field(min_length=1, max_length=_LONGEST_ADDRESS, repr=False)]
    """`$NAME`: a variable of your shell that holds the address; or the address itself; or `desktop`."""
    kind: KindName | None = None
    """Whose form the message has; null: by the address, `json` where that is no service's."""
    secret: Annotated[str | None, Field(repr=False)] = None
    """`$NAME`: a variable with the signing secret (DingTalk, Feishu), token (ntfy) or password (mail)."""
    events: tuple[Annotated[str, AfterValidator(_check_event)], ...] = tuple(event.value for event in EVENTS)
    """What to tell; left out: everything."""

    @field_serializer("url")
    def _without_the_address(self, url: str) -> str:
        return url if _is_named(url) else f"kept:{_digest(url)}@{self.channel({}).host}"

    @model_validator(mode="after")
    def _makes_sense(self) -> Notify:
        if self.secret is not None and _variable(self.secret) is None:
            raise ValueError("a `secret` stands in no job file; name a variable of your shell that holds it: $NAME")
        if not _is_named(self.url):
            channel_of(self.url, kind=self._kind)
        return self

    @property
    def variables(self) -> tuple[str, ...]:
        """The variables that hold the address and the secret."""
        return tuple(name for text in (self.url, self.secret or "") if (name := _variable(text)) is not None)

    @property
    def _kind(self) -> Kind | None:
        return None if self.kind is None else Kind(self.kind)

    def channel(self, environment: Mapping[str, str]) -> Channel:
        """Return the channel, with the values of its variables. Raises BadAddress, JobFileError."""
        secret = "" if self.secret is None else _value(self.secret, environment)
        events = tuple(Event(name) for name in self.events)
        return channel_of(_value(self.url, environment), kind=self._kind, secret=secret, events=events)

    def __str__(self) -> str:
        """The address as it may be shown: the name of its variable, or its host."""
        if _variable(self.url) is not None:
            return f"${_variable(self.url)}"
        kept = _KEPT.fullmatch(self.url)
        return (kept[2] or "desktop") if kept else str(self.channel({}))


def as_channels(value: object) -> object:
    """Return what `notify` says as a list of mappings. Raises ValueError, without the value: it may be a secret."""
    if value is None:
        return ()
    items = list(value) if isinstance(value, list | tuple) else [value]
    if not all(_is_item(item) for item in items):
        raise ValueError("`notify` is an address, a `$NAME`, a mapping with `url`, or a list of these")
    return tuple({"url": item} if isinstance(item, str) else _with_events(item) for item in items)


def _is_item(item: object) -> bool:
    """Whether an item has the types of its kind: the message about a wrong type would show the value."""
    if isinstance(item, dict):
        texts = [item[name] for name in ("url", "secret") if item.get(name) is not None]
        return all(isinstance(text, str) for text in texts) and not any("://" in str(key) for key in item)
    return isinstance(item, str | Notify)


def _with_events(item: object) -> object:
    if isinstance(item, dict) and item.get("events", ()) is None:
        return {key: value for key, value in item.items() if key != "events"}
    return item


NotifyList = Annotated[tuple[Notify, ...], BeforeValidator(as_channels), Field(max_length=8)]


def missing_variables(asked: Iterable[Notify], environment: Mapping[str, str]) -> list[str]:
    """Return the variables of `notify` for which this shell has no value."""
    names = dict.fromkeys(name for one in asked for name in one.variables)
    return [name for name in names if not environment.get(name, "").strip()]


def channels_of(asked: Iterable[Notify], environment: Mapping[str, str] | None = None) -> list[Channel]:
    """Return the channels with their addresses. Raises JobFileError where an address is missing or wrong."""
    asked = list(asked)
    held = os.environ if environment is None else environment
    missing = missing_variables(asked, held)
    if missing:
        raise JobFileError(
            f"`notify` names {', '.join(missing)}, which this shell does not have",
            hint=f"`export {missing[0]}=...` first",
        )
    found = []
    for place, one in enumerate(asked):
        try:
            found.append(one.channel(held))
        except BadAddress as err:
            raise JobFileError(
                f"`notify.{place}` ({one}): {err}", hint="docs/guides/notify.md has the address of each service"
            ) from None
    return found


def for_the_machine(asked: Iterable[Notify]) -> dict[str, str]:
    """Return the variable that tells a rented machine its channels; empty where it has none. A desktop is not there."""
    channels = [one for one in channels_of(asked) if one.kind is not Kind.DESKTOP]
    return {VARIABLE: as_text(channels)} if channels else {}


def keep_addresses(asked: Iterable[Notify]) -> None:
    """Keep the addresses that stand in the job file, for `resume`: in files that their owner alone can read."""
    for one in asked:
        if not _is_named(one.url):
            path = _kept_folder() / _digest(one.url)
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            atomic.write(path, one.url, private=True)


def _value(text: str, environment: Mapping[str, str]) -> str:
    """Return the value of `$NAME` or of a kept address, another text as it is. Raises JobFileError."""
    name, kept = _variable(text), _KEPT.fullmatch(text)
    if name is not None:
        return environment.get(name, "").strip()
    if kept is None:
        return text
    content = read_regular(_kept_folder() / kept[1], limit=_LONGEST_ADDRESS)
    if content is None:
        raise JobFileError(
            f"`notify`: the address at {kept[2]} was kept on the computer of the launch, and is not on this one",
            hint="name it again: `--set 'notify=$NAME'`, with the address in a variable of your shell",
        )
    return content.decode()


def _variable(text: str) -> str | None:
    match = _VARIABLE.fullmatch(text)
    return None if match is None else match[1] or match[2]


def _is_named(url: str) -> bool:
    """Whether a text names an address, and is none that could be a secret."""
    return _variable(url) is not None or _KEPT.fullmatch(url) is not None or url == Kind.DESKTOP


def _digest(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()[:32]


def _kept_folder() -> Path:
    return home_folder() / "notify"


def as_plain(channels: Iterable[Channel]) -> list[dict[str, Any]]:
    """Return what `cloudrun notify --json` shows of the channels: no address and no secret."""
    return [
        {"kind": one.kind.value, "host": one.host or None, "events": [event.value for event in one.events]}
        for one in channels
    ]
