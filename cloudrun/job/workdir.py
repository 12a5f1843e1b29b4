"""Choose the files of the user's own folder of code that go with a run.

Where git keeps the folder, the files that git tracks go, and new files that git does not ignore: a file that somebody
forgot to add is meant to run. Elsewhere all files go but those that are never code (NEVER_CODE). Files whose names look
like secrets stay here in both cases, tracked or not, unless the job file names them in `workdir_secrets`.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

# Names that are never code, unless git tracks them.
NEVER_CODE = (
    "__pycache__",
    "*.pyc",
    ".git",
    ".venv",
    "venv",
    "runs",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    "node_modules",
)
# Names of folders and files, in lower case, in which programs keep keys, and which people give to theirs.
_SECRET_FOLDERS = (
    ".aws", ".azure", ".config/gcloud", ".docker", ".gnupg", ".kaggle", ".kube", ".lambda_cloud", ".nebius", ".oci",
    ".runpod", ".ssh",
)  # fmt: skip
_SECRET_FILES = (
    ".env", ".env.*", "*.env", ".envrc", ".netrc", "_netrc", ".npmrc", ".pypirc", ".pgpass", ".git-credentials",
    ".s3cfg", ".boto", ".htpasswd", ".vault-token", ".vast_api_key", "vast_api_key", ".modal.toml",
    "id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", "*.pem", "*.key", "*.p12", "*.pfx", "*.ppk", "*.kdbx", "*.jks",
    "kaggle.json", "credentials", "credentials.*", "*-credentials.json", "*_credentials.json", "client_secret*.json",
    "*service-account*.json", "*service_account*.json", "application_default_credentials.json", "rclone.conf",
    "secret", "secret.*", "secrets", "secrets.*", "token", "token.txt", "token.json", "*.token", "hf_token*",
    "api_key", "api_key.*", "api-key.*", "apikey.*", "lambda_keys", "passwords.*",
)  # fmt: skip
# Files that are made to be shared: they name the secrets, without their values; and modules of code.
_EXAMPLES = ("*.example", "*.sample", "*.template", "*.dist", "*.example.*", "secrets.py", "token.py", "credentials.py")


@dataclass(frozen=True, slots=True)
class Workdir:
    """The files and links of a folder, relative to it, with `/` between names.

    `sent`: the files that go with a run. `kept`: the files that look like secrets, and stay here.
    """

    sent: tuple[str, ...]
    kept: tuple[str, ...]


def look_through(folder: Path, allowed: Sequence[str] = ()) -> Workdir:
    """Return the files of `folder` that go with a run. `allowed`: names or patterns of secrets that go all the same."""
    listed = _of_git(folder)
    names = sorted(_on_disk(folder) if listed is None else listed)
    kept = tuple(name for name in names if looks_secret(name) and not _is_allowed(name, allowed))
    return Workdir(tuple(name for name in names if name not in set(kept)), kept)


def looks_secret(name: str) -> bool:
    """Return whether a file looks like a key, a password or a token, by the names in its path alone."""
    path = PurePosixPath(name.lower())
    inside = f"/{path.parent}/"
    if any(f"/{folder}/" in inside for folder in _SECRET_FOLDERS):
        return True
    if any(fnmatch(path.name, pattern) for pattern in _EXAMPLES):
        return False
    return any(fnmatch(path.name, pattern) for pattern in _SECRET_FILES)


def warnings_of(folder: Path, allowed: Sequence[str]) -> tuple[str, ...]:
    """Return warnings about `folder` before a run: which files stay here, and which secrets go."""
    if not folder.is_dir():
        return ()
    found = look_through(folder, allowed)
    going = [name for name in found.sent if looks_secret(name)]
    warnings = []
    if found.kept:
        warnings.append(
            f"`workdir`: {_some(found.kept)} may hold secrets and {'stays' if len(found.kept) == 1 else 'stay'} here;"
            " `workdir_secrets` names files that go all the same, and `secrets` passes on environment variables"
        )
    if going:
        warnings.append(f"`workdir`: {_some(going)} may hold secrets and will be sent, as `workdir_secrets` says")
    return tuple(warnings)


def _is_allowed(name: str, allowed: Iterable[str]) -> bool:
    """Return whether `name`, or a folder that it is in, fits one of the patterns."""
    path = PurePosixPath(name)
    return any(fnmatch(str(one), pattern.rstrip("/")) for pattern in allowed for one in (path, *path.parents))


def _of_git(folder: Path) -> list[str] | None:
    """Return the files that git tracks, and new ones that it does not ignore.

    None where git does not keep the folder, or ignores it as a whole.
    """
    tracked = _git(folder, "ls-files", "-z", "--cached")
    new = _git(folder, "ls-files", "-z", "--others", "--exclude-standard")
    if tracked is None or new is None:
        return None
    names = [*tracked, *(name for name in new if not _is_never_code(name))]
    found: list[str] = []
    for name in dict.fromkeys(names):
        path = folder / name
        if path.is_dir() and not path.is_symlink():  # a repository within this one
            inner = _inside(path)
            found += [f"{name.rstrip('/')}/{one}" for one in inner]
        elif os.path.lexists(path):  # else the file was removed, and git does not know yet
            found.append(name)
    return found or None


def _inside(folder: Path) -> list[str]:
    """Return the files of a repository within another: by git, else all on the disk that may be code."""
    listed = _of_git(folder) if (folder / ".git").exists() else None
    return list(_on_disk(folder)) if listed is None else listed


def _git(folder: Path, *words: str) -> list[str] | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return [os.fsdecode(name) for name in done.stdout.split(b"\0") if name] if done.returncode == 0 else None


def _on_disk(folder: Path) -> Iterable[str]:
    for place, folders, files in os.walk(folder):
        here = Path(place).relative_to(folder)
        links = [name for name in folders if (Path(place) / name).is_symlink()]
        folders[:] = [name for name in folders if name not in links and not _is_never_code(name)]
        for name in (*files, *links):
            path = Path(place) / name
            if not _is_never_code(name) and (path.is_symlink() or path.is_file()):  # no pipes or sockets
                yield (here / name).as_posix()


def _is_never_code(name: str) -> bool:
    return any(fnmatch(part, pattern) for part in PurePosixPath(name).parts for pattern in NEVER_CODE)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
