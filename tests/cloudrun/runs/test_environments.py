"""Environments beside cloudrun's own: made once by uv, whole or not at all."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cloudrun.errors import UsageError
from cloudrun.runs import environments
from cloudrun.runs.environments import NoEnvironment, Packages, environment, trainer_command
from tests.support.wheels import write_wheel


@pytest.fixture(autouse=True)
def uv_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """`make` may have put uv into .uv/bin, where nobody looks for it."""
    if shutil.which("uv") is None:
        own = Path(__file__).parents[3] / ".uv" / "bin"
        if not (own / "uv").exists():
            pytest.skip("uv is not here")
        monkeypatch.setenv("PATH", str(own), prepend=":")


def test_an_environment_is_made_once_and_has_what_was_asked_for(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path / "wheels", "leafy", text="colour = 'green'")
    said: list[str] = []
    python = environment(tmp_path / "home", Packages("leafy", (str(wheel),)), said.append)
    shown = subprocess.run([str(python), "-c", "import leafy; print(leafy.colour)"], capture_output=True, text=True)
    assert shown.stdout == "green\n"
    wheel.unlink()
    assert environment(tmp_path / "home", Packages("leafy", (str(wheel),)), said.append) == python
    assert len(said) == 1


def test_other_requirements_get_an_environment_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("one==1\n")
    first = Packages("x", (), (file,)).folder_name
    file.write_text("one==2\n")
    assert Packages("x", (), (file,)).folder_name != first


def test_one_that_cannot_be_installed_leaves_none_behind(tmp_path: Path) -> None:
    broken = tmp_path / "leafy-1.0-py3-none-any.whl"
    broken.write_bytes(b"no zip")
    with pytest.raises(NoEnvironment, match="uv could not install leafy's packages"):
        environment(tmp_path / "home", Packages("leafy", (str(broken),)), lambda _: None)
    made = [path.name for path in (tmp_path / "home" / "environments").iterdir()]
    assert [name for name in made if not name.endswith((".lock", ".partial"))] == []


def test_what_a_kill_left_is_made_again(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path / "wheels", "leafy")
    packages = Packages("leafy", (str(wheel),))
    left = tmp_path / "home" / "environments" / f"{packages.folder_name}.partial"
    (left / "bin").mkdir(parents=True)
    (left / "bin" / "python").write_text("half")
    python = environment(tmp_path / "home", packages, lambda _: None)
    assert subprocess.run([str(python), "-c", "import leafy"]).returncode == 0


def test_without_uv_the_hint_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(UsageError, match="uv, which would install them, is not here"):
        environments.find_uv("the trainer")


def test_another_python_runs_this_trainer_whatever_lies_in_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "trainer").mkdir()
    (tmp_path / "trainer" / "__main__.py").write_text("raise SystemExit(9)")
    with trainer_command(Path(sys.executable)) as (command, env):
        done = subprocess.run([*command, "submit", "--help"], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0
    assert "sample submission" in done.stdout
