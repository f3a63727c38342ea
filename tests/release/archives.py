"""Writes archives whose bytes depend only on the contents: no times, owners or file order."""

import gzip
import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ZIP_TIME: Final = (1980, 1, 1, 0, 0, 0)
"""The earliest time that the format can hold."""
PROGRAM: Final = 0o755
PLAIN: Final = 0o644


def tar_gz(file: Path, contents: Mapping[str, bytes], programs: frozenset[str]) -> None:
    """Write a compressed tar archive. `programs` names the files that are executable."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in sorted(contents):
            member = tarfile.TarInfo(name)
            member.size = len(contents[name])
            member.mode = PROGRAM if name in programs else PLAIN
            archive.addfile(member, io.BytesIO(contents[name]))
    file.write_bytes(gzip.compress(raw.getvalue(), mtime=0))


def zip_of(contents: Mapping[str, bytes]) -> bytes:
    """Return a compressed zip archive."""
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name in sorted(contents):
            member = zipfile.ZipInfo(name, ZIP_TIME)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.external_attr = PLAIN << 16
            archive.writestr(member, contents[name])
    return raw.getvalue()


def files_of(folder: Path) -> dict[str, bytes]:
    """Return the contents of all files in a folder, by relative path."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }
