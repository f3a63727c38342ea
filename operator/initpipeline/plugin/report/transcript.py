"""Joins several reads of one log, without repeating or losing bytes. Pure.

The API cannot continue a log at a byte: ``sinceTime`` is in whole seconds of the node's clock,
which may be set back. So the plugin reads a log with timestamps and, after a cut, again from its
beginning. The bytes that were read before are skipped, since a log only grows. The timestamp of the
first line, in nanoseconds, identifies the log. If the kubelet has rotated the file, the first line
differs, and the timestamps of the lines decide what is new.
"""

import re
from typing import Final

_STAMP: Final = re.compile(
    rb"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,9}(?:Z|[+-]\d\d:\d\d) ", re.MULTILINE
)
"""The timestamp (RFC3339Nano) that the kubelet puts before each line if the request asks for it. A
long line has one timestamp, although the runtime stores it in parts of 16 KiB."""

_LONGEST_STAMP: Final = 36
_LEADING_BYTES: Final = 256
"""Bytes at the beginning of a log that identify it. They include the first timestamp."""


class Transcript:
    """Joins the reads of the log of one container.

    Pass the data to ``feed``. Call ``restart`` before each further read, and ``finish`` at the end
    of the log.
    """

    def __init__(self) -> None:
        self.replaced = False
        """The current read starts with other bytes than the first one: the kubelet has rotated the
        file, or it is the log of another container."""
        self._leading = b""
        self._consumed = 0
        """Number of bytes of the log that were processed, with timestamps."""
        self._skip = 0
        """Number of bytes of the current read that an earlier one has processed."""
        self._unread = b""
        """Bytes that cannot be processed before more of the log is read."""
        self._recognizing = False
        self._stamp = b""
        """Timestamp of the last line that was processed."""
        self._column: int | None = None
        """Number of bytes of the last line that were returned. None: the line is complete."""
        self._passing = False
        """The log was replaced, and the current read has not reached the lines that are new."""

    def restart(self) -> None:
        """Starts another read from the beginning of the log."""
        self._unread, self._skip, self.replaced = b"", 0, False
        self._recognizing = bool(self._consumed)

    def feed(self, data: bytes) -> bytes:
        """Returns the part of the data that is new, without timestamps."""
        data, self._unread = self._unread + data, b""
        if self._recognizing:
            if len(data) < len(self._leading) and self._leading.startswith(data):
                self._unread = data
                return b""
            self._recognize(data)
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        return self._after_passing(data) if self._passing else self._new_bytes(data)

    @property
    def beginning(self) -> str:
        """The timestamp of the first line, which identifies the log. Empty: nothing was read."""
        return self._leading.partition(b" ")[0].decode(errors="replace")

    def finish(self) -> bytes:
        """Returns the remaining new bytes at the end of the log."""
        rest, self._unread = self._unread, b""
        if self._recognizing:
            return b""
        return self._line_after_passing(rest) if self._passing else rest

    def _recognize(self, data: bytes) -> None:
        self._recognizing = False
        self.replaced = not data.startswith(self._leading)
        if not self.replaced:
            self._skip = self._consumed
            return
        self._leading, self._consumed, self._passing = b"", 0, True

    def _new_bytes(self, data: bytes) -> bytes:
        """Returns the bytes after the last one that was processed."""
        if not data:
            return b""
        if self._column is None:
            return self._new_lines(data)
        end = data.find(b"\n") + 1
        line = data[:end] if end else data
        self._keep(line)
        self._column = None if end else self._column + len(line)
        return line + (self._new_lines(data[end:]) if end else b"")

    def _new_lines(self, data: bytes) -> bytes:
        """Returns the bytes after the last one that was processed. ``data`` starts with a line."""
        end = data.rfind(b"\n") + 1
        whole, rest = data[:end], data[end:]
        begun = _STAMP.match(rest)
        if rest and begun is None and len(rest) <= _LONGEST_STAMP:
            self._unread, rest = rest, b""
        if whole:
            self._note_stamp(_STAMP.match(whole, whole.rfind(b"\n", 0, -1) + 1))
        if rest:
            self._note_stamp(begun)
            self._column = len(rest) - (begun.end() if begun else 0)
        self._keep(whole + rest)
        return _STAMP.sub(b"", whole) + rest[begun.end() if begun else 0 :]

    def _after_passing(self, data: bytes) -> bytes:
        """Returns the bytes after the last line that was processed, by its timestamp."""
        parts: list[bytes] = []
        while data:
            found = _STAMP.match(data)
            if found and found[0] > self._stamp:
                self._passing, self._column = False, None
                return b"".join(parts) + self._new_lines(data)
            end = data.find(b"\n") + 1
            if not end:
                self._unread = data
                break
            parts.append(self._line_after_passing(data[:end]))
            data = data[end:]
        return b"".join(parts)

    def _line_after_passing(self, line: bytes) -> bytes:
        """Returns the new part of a line whose timestamp is not later than the last one."""
        self._keep(line)
        found = _STAMP.match(line)
        if found is None or found[0] != self._stamp or self._column is None:
            return b""
        new = line[found.end() + self._column :]
        self._column = None
        return new

    def _note_stamp(self, found: "re.Match[bytes] | None") -> None:
        if found:
            self._stamp = found[0]

    def _keep(self, data: bytes) -> None:
        if len(self._leading) < _LEADING_BYTES:
            self._leading += data[: _LEADING_BYTES - len(self._leading)]
        self._consumed += len(data)
