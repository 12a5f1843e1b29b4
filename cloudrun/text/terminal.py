"""Text that anybody may have written, for a terminal: control characters are shown and not obeyed. Pure.

A job's log, file names, and what a provider says can hold sequences that set the clipboard or the title, clear the
screen or move the cursor over what stands above. Colours stay, since training bars and loggers use them and they can
only paint the line they stand in: a line that has any ends with a reset. Of a line that a bar has redrawn with `\\r`,
the last state is shown, as a terminal does. Everything else becomes letters: `^[]52;c;...^G`.
"""

from __future__ import annotations

import re

_RESET = "\x1b[0m"
_ONE = r"(?:0?[0-4]|7|2[1-4]|27|3[0-7]|39|4[0-7]|49|9[0-7]|10[0-7]|[34]8;5;\d{1,3}|[34]8;2;\d{1,3};\d{1,3};\d{1,3})"
_COLOUR = re.compile(rf"\x1b\[(?:{_ONE}(?:;{_ONE})*)?m")  # not 8, which hides letters, nor 5, which blinks
_TO_END_OF_LINE = re.compile(r"\x1b\[0?K")  # there is nothing to the right of a line that is printed once
# C0 and C1 controls but the line end and the tab, what turns the direction of writing, and halves of surrogate pairs.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def for_terminal(text: str) -> str:
    """Return `text`, of one line or several, with colours and nothing else that a terminal would obey."""
    if text.isprintable():
        return text
    return "\n".join(_line(line) for line in text.split("\n"))


def without_controls(text: str) -> str:
    """Return `text` in one line, without colours either: a file's name, say."""
    return text if text.isprintable() else _CONTROL.sub(_spelled, _COLOUR.sub("", text)).replace("\n", "\\n")


def _line(line: str) -> str:
    if line.isprintable():
        return line
    shown = _TO_END_OF_LINE.sub("", line.rstrip("\r").rpartition("\r")[2])
    colours = list(_COLOUR.finditer(shown))
    if not colours:
        return _CONTROL.sub(_spelled, shown)
    pieces, at = [], 0
    for found in colours:
        pieces += [_CONTROL.sub(_spelled, shown[at : found.start()]), found.group()]
        at = found.end()
    tail = _CONTROL.sub(_spelled, shown[at:])
    return "".join(pieces) + tail + ("" if not tail and _ends_colours(colours[-1].group()) else _RESET)


def _ends_colours(sequence: str) -> bool:
    return sequence in ("\x1b[m", _RESET)


def _spelled(found: re.Match[str]) -> str:
    code = ord(found.group())
    if code < 0x20 or code == 0x7F:
        return f"^{chr(code ^ 0x40)}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
