"""What a job, a file name or a provider says is shown at a terminal, and not obeyed; colours of training bars stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudrun.text.terminal import for_terminal, without_controls
from tests.support.shell import Shell
from tests.support.terminal import terminals


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("epoch 1\tloss 0.5", "epoch 1\tloss 0.5"),
        ("日本語 é", "日本語 é"),
        ("\x1b[32mgood\x1b[0m", "\x1b[32mgood\x1b[0m"),
        ("\x1b[1;38;5;196mred", "\x1b[1;38;5;196mred\x1b[0m"),
        ("\x1b[31m\x1b[mx", "\x1b[31m\x1b[mx\x1b[0m"),
        ("\x1b[8mhidden\x1b[0m", "^[[8mhidden\x1b[0m"),
        ("\x1b[1;8mhidden", "^[[1;8mhidden"),
        ("\x1b]52;c;ZWNobyBwd25lZA==\x07", "^[]52;c;ZWNobyBwd25lZA==^G"),
        ("\x1b]0;title\x1b\\", "^[]0;title^[\\"),
        ("\x1b[2J\x1b[H", "^[[2J^[[H"),
        ("\x1b[3A", "^[[3A"),
        ("\x9b2J\x90x\x9c", "\\x9b2J\\x90x\\x9c"),
        ("\x1bc", "^[c"),
        ("a\x08\x7f\x00", "a^H^?^@"),
        ("10%\r 50%\r100%\n", "100%\n"),
        ("windows\r\nlines\r", "windows\nlines"),
        ("bar\x1b[K done\x1b[0K", "bar done"),
        ("\u202eevil\u2066", "\\u202eevil\\u2066"),
        ("half \udce9", "half \\udce9"),
        ("\x1b[" + "1;" * 5 + "m", "^[[1;1;1;1;1;m"),
    ],
)
def test_control_characters_become_letters(written: str, shown: str) -> None:
    assert for_terminal(written) == shown
    assert for_terminal(shown.replace("\x1b", "")).isprintable() or "\t" in shown or "\n" in shown


def test_a_file_name_stays_in_its_line_and_has_no_colour() -> None:
    assert without_controls("a\nerror: \x1b[31mnothing is billing") == "a\\nerror: nothing is billing"


def test_no_command_obeys_what_a_job_writes_and_the_log_on_disk_stays_as_it_is(shell: Shell) -> None:
    steal = r"\033]52;c;cHduZWQ=\007\033[2J\033]0;PWN\007\033[1A"
    shell.env.pop("NO_COLOR")
    job = shell.job(
        "name: odd\ninfra: local\ndata: {source: .}\nrun: |\n"
        f"  printf '{steal}\\n\\033[32mgreen\\033[0m\\n'\n"
        "  touch \"$CLOUDRUN_OUTPUT/$(printf 'evil\\033]0;PWN\\007.txt')\"\n"
    )
    with terminals(shell) as open_terminal:
        said = []
        for words in (["launch", "--yes", job], ["logs"]):
            typed = open_terminal("-m", "cloudrun", *words)
            typed.end()
            said.append(typed.said)
        for text in said:
            for sequence in ("\x1b]52", "\x1b[2J", "\x1b]0;PWN", "\x1b[1A\r\n", "\x07"):
                assert sequence not in text
        assert "^[]52;c;cHduZWQ=^G^[[2J" in said[0]
        assert "^[]52;c;cHduZWQ=^G^[[2J" in said[1]
        assert "\x1b[32mgreen\x1b[0m" in said[1]
        assert "evil^[]0;PWN^G.txt" in said[0]
    (log,) = Path(shell.folder / "runs").glob("*/log.txt")
    assert b"\x1b]52;c;cHduZWQ=\x07\x1b[2J" in log.read_bytes()
    assert "\x1b]52;c;cHduZWQ=\x07\x1b[2J" in shell("logs").out
