"""Use Kaggle's API as its own clients do (kagglesdk 0.1.38, kagglehub 1.0.3): GET under /api/v1, with a token.

Lists come as pages: `files` of a competition, `datasetFiles` of a data set, each with `name` and `totalBytes`,
and `nextPageToken`. A download is redirected to a file server, which must not get the token.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote, urlencode

from cloudrun.files.untrusted import read_object
from cloudrun.sources import Source, SourceProblem
from cloudrun.sources.web import Address, read_json

_SERVER = "https://www.kaggle.com"
TOKEN, USERNAME, KEY = "KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY"
_GET_TOKEN = (
    f"make a token at {_SERVER}/settings, then `export {TOKEN}=...`, or put the file that it gives you into ~/.kaggle/"
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """A token, or a user name and key, by the names of the environment variables that a machine gets them in."""

    values: Mapping[str, str]

    @property
    def names(self) -> list[str]:
        return list(self.values)

    @property
    def authorization(self) -> str:
        """The value of the HTTP header `Authorization`."""
        if TOKEN in self.values:
            return f"Bearer {self.values[TOKEN]}"
        pair = f"{self.values[USERNAME]}:{self.values[KEY]}"
        return f"Basic {base64.b64encode(pair.encode()).decode()}"


def find_credentials(environment: Mapping[str, str]) -> Credentials | None:
    """Return the credentials that Kaggle's own clients would use; None where there are none.

    They look at its variables, then at the files of ~/.kaggle (or $KAGGLE_CONFIG_DIR). Raises SourceProblem where a
    file is there and cannot be understood.
    """
    folder = Path(environment.get("KAGGLE_CONFIG_DIR") or Path(environment.get("HOME", "~")).expanduser() / ".kaggle")
    token = environment.get(TOKEN, "")
    if token and Path(token).is_file():  # the variable may also name the file that holds it
        token = Path(token).read_text(encoding="utf-8").strip()
    if token:
        return Credentials({TOKEN: token})
    if environment.get(USERNAME) and environment.get(KEY):
        return Credentials({USERNAME: environment[USERNAME], KEY: environment[KEY]})
    if (folder / "access_token").is_file():
        return Credentials({TOKEN: (folder / "access_token").read_text(encoding="utf-8").strip()})
    path = folder / "kaggle.json"
    if not path.is_file():
        return None
    held = read_object(path) or {}
    try:
        return Credentials({USERNAME: str(held["username"]), KEY: str(held["key"])})
    except KeyError as err:
        raise SourceProblem(f"{path} holds no `username` and `key`", hint=_GET_TOKEN) from err


def find_or_refuse(environment: Mapping[str, str]) -> Credentials:
    """Return the credentials. Raises SourceProblem where there are none."""
    found = find_credentials(environment)
    if found is None:
        raise SourceProblem("there is no token for Kaggle here", hint=_GET_TOKEN)
    return found


def archive_of(source: Source, credentials: Credentials) -> Address:
    """Return the address of the zip of all files of the source."""
    what, *names = source.rest.split("/")
    if what == "competitions":
        return _address(source, credentials, f"competitions/data/download-all/{quote(names[0])}")
    path = f"datasets/download/{quote(names[0])}/{quote(names[1])}"
    return _address(source, credentials, path, _version_of(names))


def refuse_what_is_not_allowed(source: Source, credentials: Credentials) -> None:
    """Raise SourceProblem where the name or the token is wrong, by asking for the list of the source's files."""
    what, *names = source.rest.split("/")
    if what == "competitions":
        address = _address(source, credentials, f"competitions/data/list/{quote(names[0])}")
    else:
        path = f"datasets/list/{quote(names[0])}/{quote(names[1])}"
        address = _address(source, credentials, path, _version_of(names))
    answer = read_json(address)
    files = answer.get("files" if what == "competitions" else "datasetFiles") if isinstance(answer, dict) else None
    if not files:
        said = answer.get("errorMessage") or answer.get("message") if isinstance(answer, dict) else None
        raise SourceProblem(
            f"{source.text} has no files" + (f": {said}" if said else ""), hint=f"look at {_page(source)}"
        )


def _version_of(names: list[str]) -> dict[str, str]:
    return {"datasetVersionNumber": names[3]} if len(names) == 4 else {}


def _address(source: Source, credentials: Credentials, path: str, query: Mapping[str, str] | None = None) -> Address:
    server = os.environ.get("KAGGLE_API_ENDPOINT", _SERVER).rstrip("/")
    asked = f"?{urlencode(query)}" if query else ""
    address = Address(f"{server}/api/v1/{path}{asked}", source.text, credentials.authorization)
    return replace(address, explain=lambda status: _explained(source, status))


def _explained(source: Source, status: int) -> SourceProblem | None:
    page = _page(source)
    if status == 401:
        return SourceProblem("Kaggle does not accept this token (HTTP 401)", hint=_GET_TOKEN)
    if status == 403 and source.rest.startswith("competitions/"):
        return SourceProblem(
            f"Kaggle does not give you {source.text} (HTTP 403): its rules are not accepted yet, or it is closed",
            hint=f"join it and accept its rules at {page}/rules, then run the same command again",
        )
    if status == 403:
        return SourceProblem(
            f"Kaggle does not give you {source.text} (HTTP 403)",
            hint=f"it is private, or wants your consent: open {page} with the account of the token",
        )
    if status == 404:
        return SourceProblem(
            f"Kaggle has no {source.text} (HTTP 404)", hint=f"take the name from the page's address: {page}"
        )
    return None


def _page(source: Source) -> str:
    return f"{_SERVER}/{source.rest}"
