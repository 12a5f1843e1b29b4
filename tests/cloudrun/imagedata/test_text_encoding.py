"""Texts that are not UTF-8: the code page that they are read in, and what is said of the guess."""

from __future__ import annotations

from pathlib import Path

import pytest

from cloudrun.imagedata.text_encoding import decode
from cloudrun.imagedata.walk import FolderProblem

HANGUL = "녹병,건강,흰가루병,탄저병,잎마름병,뿌리썩음"


@pytest.mark.parametrize(
    ("words", "codec", "name"),
    [
        pytest.param("锈病,健康,黑星病", "gbk", "GBK", id="simplified Chinese"),
        pytest.param("鏽病,健康", "big5", "Big5", id="traditional Chinese"),
        pytest.param("さび病,健康", "shift_jis", "Shift-JIS", id="Japanese"),
        pytest.param(HANGUL, "euc_kr", "EUC-KR", id="Korean"),
        pytest.param("ржавчина,здоровый", "cp1251", "Windows-1251", id="Russian"),
        pytest.param("rdza żółta,zdrowy łan", "cp1250", "Windows-1250", id="Polish"),
        pytest.param("café,thé,naïve", "cp1252", "Windows-1252", id="French"),
        pytest.param("grain d\u2019Orge,blé", "cp1252", "Windows-1252", id="French with a typed apostrophe"),
        pytest.param("größe,Rüben,Äpfel", "cp1252", "Windows-1252", id="German"),
        pytest.param("café,thé", "mac_roman", "Mac OS Roman", id="French of a Mac"),
    ],
)
def test_the_code_page_is_found_and_said(words: str, codec: str, name: str) -> None:
    content = f"image,label\n1.jpg,{words}\n"
    text, (note,) = decode(Path("labels.csv"), content.encode(codec))
    assert text == content
    assert f"labels.csv is not UTF-8; read as {name} ({words.split(',')[0].split()[-1]}" in note


def test_another_code_page_that_fits_is_named_with_what_it_would_say() -> None:
    _, (note,) = decode(Path("labels.csv"), "녹병,건강".encode("euc_kr"))
    assert "read as GBK (踌捍, 扒碍); as EUC-KR it would say 녹병, 건강" in note


def test_no_code_page_is_named_that_would_mix_two_scripts_in_a_word() -> None:
    _, (note,) = decode(Path("labels.csv"), "blé rouillé,sainé,brûlé,taché,fané".encode("cp1252"))
    assert "read as Windows-1252 (blé, rouillé, sainé)" in note
    assert "Windows-1251" not in note


def test_bytes_of_no_encoding_are_refused_with_their_line() -> None:
    with pytest.raises(FolderProblem, match=r"t.csv:2: byte 0xff is not UTF-8, and the file is in no encoding"):
        decode(Path("t.csv"), b"image,label\n\xff\x81 \xff\n")
