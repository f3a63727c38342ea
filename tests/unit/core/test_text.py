"""Text that is shown to users has no characters that a terminal interprets."""

import json

import pytest
import yaml

from initpipeline.api.names import MAX_MESSAGE_LENGTH
from initpipeline.core.text import clip, clip_start, escaped, is_plain, plain

SAFE = ["no such table", "zwei Zeilen\nund ein\tTab", "日本語 🙂 e\u0301", "שלום", ""]
"""Nothing in these is changed, or escaped."""

CLEANED = [
    pytest.param("\x1b[1;31mFATAL\x1b[0m no such table", "FATAL no such table", id="colour"),
    pytest.param("\x1b[38;2;1;2;3mx\x1b[m", "x", id="24-bit colour"),
    pytest.param("\x1b[2J\x1b[Hx\x1b[?25l", "x", id="cleared screen, cursor"),
    pytest.param("\x1b]0;title\x07x", "x", id="window title, ended by BEL"),
    pytest.param("\x1b]8;;http://a\x1b\\link\x1b]8;;\x1b\\", "link", id="hyperlink"),
    pytest.param("\x1bPq#0\x1b\\x", "x", id="device control string"),
    pytest.param("\x1b]0;never ended", "0;never ended", id="string without its terminator"),
    pytest.param("\x1b(B\x1b[mx\x1b7\x1bc", "x", id="character set, save, reset"),
    pytest.param("\x9b31mx\x9d0;t\x9cy", "xy", id="8-bit CSI and OSC"),
    pytest.param("x\x1b", "x", id="cut after ESC"),
    pytest.param("x\x1b[1;3", "x", id="cut within the parameters"),
    pytest.param("x\x1b[1;3\nnext", "x\nnext", id="cut at the end of a line"),
    pytest.param("a\r\nb\r\r\nc", "a\nb\nc", id="CR LF"),
    pytest.param("10%\r60%\rdone", "10%\n60%\ndone", id="progress bar"),
    pytest.param("a\vb\fc\x85d\u2028e\u2029f", "a\nb\nc\nd\ne\nf", id="rare line breaks"),
    pytest.param("a\bb\x7fc\x00d\x07", "abcd", id="backspace, DEL, NUL, BEL"),
    pytest.param("a\u202eb\u2066c\u200fd", "abcd", id="bidirectional"),
    pytest.param("a\ud83db", "a\ufffdb", id="half of a surrogate pair"),
    pytest.param("\x1b[0m\x00", "\\u001b[0m\\u0000", id="control sequences only"),
    pytest.param("\r\n", "\n", id="white space only"),
]


@pytest.mark.parametrize("text", SAFE)
def test_plain_text_without_control_characters_is_unchanged(text: str) -> None:
    assert (plain(text), escaped(text), is_plain(text)) == (text, text, True)


@pytest.mark.parametrize(("text", "expected"), CLEANED)
def test_plain_text_has_no_control_sequences(text: str, expected: str) -> None:
    assert plain(text) == expected
    assert is_plain(expected)
    assert plain(expected) == expected


@pytest.mark.parametrize("code", [*range(0x20), *range(0x7F, 0xA0), 0x202E, 0x2069, 0xD800])
def test_plain_text_of_any_input_has_no_unsafe_character(code: int) -> None:
    for text in (chr(code), f"a{chr(code)}b", f"a{chr(code)}", f"\x1b{chr(code)}b"):
        assert is_plain(plain(text))
        assert bool(plain(text).strip()) == bool(text.strip()) or plain(text) == "\n"


@pytest.mark.parametrize("unit", ["\x1b]", "\x1b[", "\x1b[1;", "\x1b", "\x9d", "\r", "\x1b]8;;x"])
def test_plain_with_many_unfinished_sequences_takes_linear_time(unit: str) -> None:
    """With a regular expression that backtracks, this would take an hour."""
    assert is_plain(plain(unit * (1 << 20)))


@pytest.mark.parametrize("text", ["a\x1bb", "a\x9bb\x7f\u202e", "\ud800"])
def test_escaped_text_is_valid_in_json_and_yaml(text: str) -> None:
    quoted = f'"{escaped(text)}"'
    assert is_plain(quoted)
    assert json.loads(quoted) == text
    if not text.startswith("\ud800"):
        assert yaml.safe_load(quoted) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("  \x1b[31mx\x1b[0m \n", "x", id="stripped"),
        pytest.param("\x1b[31m" * 1000 + "end", "end", id="cleaned before it is cut"),
        pytest.param("é" * 1000, "é" * 510 + " ...", id="cut between characters"),
        pytest.param("x" + "é" * 1000, "x" + "é" * 509 + " ...", id="no part of a character"),
        pytest.param("é" * 512, "é" * 512, id="of exactly the limit"),
    ],
)
def test_clipped_text_is_plain_and_short(text: str, expected: str) -> None:
    assert clip(text) == expected
    assert len(clip(text).encode()) <= MAX_MESSAGE_LENGTH


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("  \x1b[31mx\x1b[0m \n", "x", id="stripped"),
        pytest.param("end" + "\x1b[31m" * 1000, "end", id="cleaned before it is cut"),
        pytest.param("é" * 1000, "... " + "é" * 510, id="cut between characters"),
        pytest.param("é" * 1000 + "x", "... " + "é" * 509 + "x", id="no part of a character"),
        pytest.param("é" * 512, "é" * 512, id="of exactly the limit"),
        pytest.param("é" * 512 + "x", "... " + "é" * 509 + "x", id="one byte too long"),
    ],
)
def test_text_with_clipped_start_is_plain_short_and_has_its_end(text: str, expected: str) -> None:
    assert clip_start(text) == expected
    assert len(clip_start(text).encode()) <= MAX_MESSAGE_LENGTH
