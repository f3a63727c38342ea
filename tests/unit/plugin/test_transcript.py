"""Tests that a log that is read in parts, and again after a cut, is complete and unchanged."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from initpipeline.plugin.report.transcript import Transcript

STAMP = b"2030-01-01T12:00:%02d.%09dZ "

CONTENTS = [
    pytest.param(b"", id="empty"),
    pytest.param(b"one\ntwo\n", id="lines"),
    pytest.param(b"one\n\n\ntwo", id="empty lines, no newline at the end"),
    pytest.param(b"10%\r60%\rdone\r\n\r\n", id="CR and CR LF"),
    pytest.param(b"\xff\xfe\x00\n\xe2\x82\nx\n", id="not UTF-8, NUL"),
    pytest.param("\ufeffa\u2028b\x85c\vd\fe\n".encode(), id="line breaks of Python"),
    pytest.param(b"x" * 70_000 + b"\ny\n", id="a line longer than a chunk"),
    pytest.param(b"2030-01-01T12:00:00.000000000Z not the kubelet's\n", id="a timestamp in a line"),
    pytest.param(b"2030-01-01T12:00:00.000000000Z \n" * 3, id="only timestamps"),
    pytest.param(b" \n  \n", id="white space"),
]


def stamped(content: bytes, first: int = 0, *, same: bool = False) -> bytes:
    """Returns the log as the kubelet sends it with timestamps."""
    lines = content.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
        end = b"\n"
    else:
        end = b""
    marked = [
        STAMP % divmod(first if same else first + n, 10**9) + line for n, line in enumerate(lines)
    ]
    return b"\n".join(marked) + (end if lines else b"")


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def read(transcript: Transcript, data: bytes, size: int) -> bytes:
    return b"".join(transcript.feed(piece) for piece in pieces(data, size))


@pytest.mark.parametrize("size", [1, 2, 7, 31, 4096, 1 << 20])
@pytest.mark.parametrize("content", CONTENTS)
def test_transcript_of_any_chunks_has_the_bytes_of_the_log(content: bytes, size: int) -> None:
    transcript = Transcript()
    if len(content) > 10_000 and size < 7:
        size = 7
    assert read(transcript, stamped(content), size) + transcript.finish() == content


@pytest.mark.parametrize("same", [False, True], ids=["", "one timestamp for all"])
@pytest.mark.parametrize("content", CONTENTS)
def test_transcript_cut_anywhere_continues_at_the_cut(content: bytes, same: bool) -> None:
    """The second reading is longer, since the step continues to write."""
    log = stamped(content, same=same)
    for cut in range(0, len(log), max(1, len(log) // 200)):
        transcript = Transcript()
        out = read(transcript, log[:cut], 50)
        transcript.restart()
        out += read(transcript, log, 4096) + transcript.finish()
        assert out == content, cut


@given(
    st.lists(st.binary(max_size=60), max_size=8),
    st.lists(st.integers(0, 600), max_size=5),
    st.integers(1, 80),
)
def test_transcript_cut_several_times_is_complete(
    lines: list[bytes], cuts: list[int], size: int
) -> None:
    content = b"".join(line.replace(b"\n", b"") + b"\n" for line in lines)
    log, transcript, out = stamped(content), Transcript(), b""
    for cut in cuts:
        out += read(transcript, log[:cut], size)
        transcript.restart()
    assert out + read(transcript, log, size) + transcript.finish() == content


def test_transcript_clock_set_back_between_readings_loses_no_line() -> None:
    log = stamped(b"a\nb\n", first=50) + stamped(b"c\nd\n", first=10)
    transcript = Transcript()
    out = transcript.feed(stamped(b"a\nb\n", first=50))
    transcript.restart()
    assert out + transcript.feed(log) == b"a\nb\nc\nd\n"
    assert not transcript.replaced


@pytest.mark.parametrize(
    ("before", "kept", "expected"),
    [
        pytest.param(b"a\nb\nc\n", 1, b"d\ne\n", id="the last line is still there"),
        pytest.param(b"a\nb\nc\n", 3, b"d\ne\n", id="all that was read is gone"),
        pytest.param(b"a\nb\nlong li", 1, b"ne\nd\ne\n", id="in the middle of a line"),
    ],
)
@pytest.mark.parametrize("size", [1, 9, 4096])
def test_transcript_rotated_between_readings_continues_after_the_last_line(
    before: bytes, kept: int, expected: bytes, size: int
) -> None:
    log = stamped((b"a\nb\nlong line\n" if b"long" in before else b"a\nb\nc\n") + b"d\ne\n")
    rotated = b"".join(log.splitlines(keepends=True)[kept:])
    transcript = Transcript()
    assert transcript.feed(stamped(before)) == before
    transcript.restart()
    assert read(transcript, rotated, size) + transcript.finish() == expected
    assert transcript.replaced
    transcript.restart()
    assert read(transcript, rotated + stamped(b"f\n", first=9), size) == b"f\n"
    assert not transcript.replaced


def test_transcript_line_without_timestamp_is_passed_on() -> None:
    """The kubelet writes such a line into the response if it cannot read the log."""
    transcript = Transcript()
    message = b"failed to watch the log file: too many open files\n"
    assert transcript.feed(stamped(b"a\n") + message) == b"a\n" + message


def test_transcript_short_rest_is_passed_on_at_the_end() -> None:
    transcript = Transcript()
    assert transcript.feed(stamped(b"a\n") + b"EOF") == b"a\n"
    assert transcript.finish() == b"EOF"
