"""The bytes of a text file -> text: by a mark, as UTF-8, else in the code page that fits them best."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from pathlib import Path

from cloudrun.imagedata.walk import FolderProblem

SAVE_AS = "save it as UTF-8: in Excel as `CSV UTF-8`, in an editor with the encoding UTF-8"

_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_TYPED_MARKS = frozenset(b"\x85\x91\x92\x93\x94\x95\x96\x97")  # quotes and dashes of Windows-1252
_MARKS = "\u2018\u2019\u201c\u201d\u2013\u2014\u2026\u00b0"  # quotes, dashes, dots, the degree sign
_ENOUGH_HANGUL = 12  # different characters, after which all of them are Korean by no chance


def decode(path: Path, content: bytes) -> tuple[str, tuple[str, ...]]:
    """Return the text of a file, and what was guessed of its encoding. Raises FolderProblem."""
    for mark, codec in _BOMS:
        if content.startswith(mark):
            try:
                return content.decode(codec), ()
            except UnicodeDecodeError as err:
                raise FolderProblem(f"{path} cannot be read as {codec}: {err.reason}", hint=SAVE_AS) from None
    if b"\0" in content[:4000]:
        codec = "utf-16-le" if content[1:2] == b"\0" else "utf-16-be"
        try:
            return content.decode(codec), (f"{path.name} has no mark of its encoding; read as {codec}",)
        except UnicodeDecodeError:
            raise FolderProblem(f"{path} is no text file", hint=SAVE_AS) from None
    try:
        return content.decode(), ()
    except UnicodeDecodeError as err:
        found = code_pages(content)
        if not found:
            line = content[: err.start].count(b"\n") + 1
            raise FolderProblem(
                f"{path}:{line}: byte 0x{content[err.start]:02x} is not UTF-8, and the file is in no encoding that is"
                " recognised",
                hint=SAVE_AS,
            ) from None
        (codec, name), *others = found
        text = content.decode(codec)
        said = f"{path.name} is not UTF-8; read as {name} ({_sample(text)})"
        if others:
            said += f"; as {others[0][1]} it would say {_sample(content.decode(others[0][0]))}"
        return text, (f"{said}: look at the names of the classes, and {SAVE_AS}",)


def code_pages(content: bytes) -> list[tuple[str, str]]:
    """Return the code pages, codec and usual name, that `content` may be in: the likeliest, and one more."""
    order = _east_asian(content)
    if _is_among_letters(content):
        order = [*_european(content), *order]
    found: list[tuple[str, str]] = []
    texts = set[str]()
    for codec, name, is_likely in order:
        try:
            text = content.decode(codec)
        except UnicodeDecodeError:
            continue
        if text not in texts and is_likely(text):
            texts.add(text)
            found.append((codec, name))
    return found[:2]


def code_page_of_names(names: bytes) -> tuple[str, str]:
    """Return the code page, codec and usual name, of file names in an archive that does not say it, one a line.

    macOS writes UTF-8, and Windows the code page of its command line: 850 in the West.
    """
    for codec, name, is_likely in (("utf-8", "UTF-8", _any_text), ("cp850", "DOS 850", _has_words)):
        try:
            if is_likely(names.decode(codec)) and (codec == "utf-8" or _is_among_letters(names)):
                return codec, name
        except UnicodeDecodeError:
            continue
    others = [one for one in code_pages(names) if one[0] not in ("mac_roman", "cp1252")]
    return others[0] if others else ("cp437", "DOS 437")


_Candidate = tuple[str, str, Callable[[str], bool]]


def _european(content: bytes) -> list[_Candidate]:
    """Code pages of a byte a letter, for text in which such letters stand within words of ASCII letters."""
    high = [byte for byte in content if byte >= 0x80]
    is_mac = all(byte < 0xA0 for byte in high) and not set(high) & _TYPED_MARKS
    accents = [run for run in re.findall(rb"[\x80-\xff]+", content) if len(run) == 1 and run[0] >= 0xC0]
    return [
        *([("mac_roman", "Mac OS Roman", _has_words)] if is_mac else []),
        ("cp1252", "Windows-1252", _has_words),
        ("cp1250", "Windows-1250", _has_words),
        ("cp1252", "Windows-1252", lambda _: 2 * len(accents) >= len(high)),
    ]


def _east_asian(content: bytes) -> list[_Candidate]:
    """Code pages of two bytes a character, and of Cyrillic, whose words have no ASCII letters among theirs."""
    return [
        ("cp1251", "Windows-1251", lambda text: _is_cyrillic(content, text)),
        ("euc_kr", "EUC-KR", lambda text: len(_hangul(text)) >= _ENOUGH_HANGUL and _is_hangul(text)),
        ("gb2312", "GBK", _any_text),
        ("euc_kr", "EUC-KR", _is_hangul),
        ("big5", "Big5", _is_common_big5),
        ("shift_jis", "Shift-JIS", lambda text: not re.search("[\uff61-\uff9f]", text)),
        ("gb18030", "GB18030", _any_text),
        ("cp932", "Shift-JIS", _any_text),
        ("big5", "Big5", _any_text),
        ("euc_kr", "EUC-KR", _any_text),
        ("cp1252", "Windows-1252", _any_text),
    ]


def _is_among_letters(content: bytes) -> bool:
    """Whether bytes above 127 stand beside ASCII letters, as accents do."""
    runs = re.findall(rb"[\x80-\xff]+", content)
    among = re.findall(rb"[A-Za-z][\x80-\xff]{1,4}(?![\x80-\xff])|(?<![\x80-\xff])[\x80-\xff]{1,4}[A-Za-z]", content)
    return 2 * len(among) >= len(runs)


def _has_words(text: str) -> bool:
    """Whether letters and typed marks are all that is beyond ASCII, without capitals within words of small letters."""
    if not all(one.isalpha() or one in _MARKS for one in text if ord(one) > 127):
        return False
    words = [word for word in re.findall(r"[^\W\d_]+", text) if not word.isascii()]
    return not any(re.search("[a-z\u00df-\u00f6\u00f8-\u00ff][A-Z\u00c0-\u00d6\u00d8-\u00de]", word) for word in words)


def _is_cyrillic(content: bytes, text: str) -> bool:
    """Russian has the letters from 0xC0 on alone; the second bytes of Chinese begin at 0xA1."""
    high = [byte for byte in content if byte >= 0x80]
    if _is_among_letters(content):
        return False
    return len(high) >= 6 and all(byte >= 0xC0 or byte in (0xA8, 0xB8) for byte in high) and _has_letters_alone(text)


def _is_common_big5(text: str) -> bool:
    others = {one for one in text if ord(one) > 127}
    return bool(others) and all(0xA4 <= one.encode("big5")[0] <= 0xC6 for one in others)


def _hangul(text: str) -> set[str]:
    return {one for one in text if "\uac00" <= one <= "\ud7a3"}


def _is_hangul(text: str) -> bool:
    return bool(_hangul(text)) and {one for one in text if ord(one) > 127} == _hangul(text)


def _has_letters_alone(text: str) -> bool:
    return all(one.isalpha() for one in text if ord(one) > 127)


def _any_text(_: str) -> bool:
    return True


def _sample(text: str) -> str:
    """The first words with letters beyond ASCII."""
    words = dict.fromkeys(re.findall(r"[^\s,;|\"'=]*[^\x00-\x7f][^\s,;|\"'=]*", text))
    return ", ".join(word[:20] for word in [*words][:3])
