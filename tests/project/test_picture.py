"""The picture of README.md is what a terminal shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.picture import as_svg, lines_of, shortened, typed_in_a_terminal


def test_a_line_that_was_redrawn_is_shown_as_it_ended() -> None:
    assert lines_of("a\r\n\x1b[?25l10 %\r90 %\r100 %\x1b[K\r\nb\r\n") == ["a", "100 %", "b", ""]


def test_colours_stay_and_empty_lines_come_alone() -> None:
    assert lines_of("\x1b[33mwarning:\x1b[0m x\n\n\n\ny") == ["\x1b[33mwarning:\x1b[0m x", "", "y"]


def test_the_middle_of_a_long_log_is_left_out() -> None:
    lines = [str(number) for number in range(10)]
    assert shortened([*lines, "", ""], head=2, tail=1) == ["0", "1", "...", "9"]
    assert shortened(lines, head=5, tail=5) == lines


def test_a_command_sees_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "seen.py").write_text("import sys\nprint(sys.stdin.isatty(), sys.stdout.isatty())\nsys.exit(3)\n")
    monkeypatch.setattr("benchmarks.picture.CHECKOUT", tmp_path)
    (tmp_path / "jobs").mkdir()
    (tmp_path / "folder").mkdir()
    assert typed_in_a_terminal(("seen",), tmp_path / "folder") == (3, "True True\r\n")


def test_the_drawing_has_the_text_and_no_font_of_another_server() -> None:
    svg = as_svg(["$ cloudrun launch", "\x1b[31merror:\x1b[0m no"])
    assert "cloudrun&#160;launch" in svg
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "").replace("https://www.textualize.io", "")
