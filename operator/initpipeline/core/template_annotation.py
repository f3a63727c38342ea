"""The template in an annotation of the Pod. The cause of the next run follows from it: the fields
that have changed since."""

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from typing import Any, Final

from initpipeline.core.encoding import without_depths
from initpipeline.core.template import digest, json_text

LARGEST_PACKED: Final = 16 * 1024
"""In bytes. All annotations of a Pod together may have 256 KiB, and each watch sends them."""
_LARGEST_UNPACKED: Final = 1024 * 1024
"""In bytes. The limit is needed because a small text can decompress to a thousand times its size.
"""


def packed(template: Mapping[str, Any]) -> str | None:
    """Returns the template, compressed, as the value of an annotation. None: the value
    would exceed LARGEST_PACKED."""
    text = json_text(template)
    if len(text) > _LARGEST_UNPACKED:
        return None
    value = base64.b64encode(zlib.compress(text.encode())).decode()
    return value if len(value) <= LARGEST_PACKED else None


def verified(text: str | None, hash_: str | None) -> dict[str, Any] | None:
    """Returns the template in a value that ``packed`` wrote. None: the value cannot be read, or the
    template has another hash."""
    template = unpacked(text)
    return template if template is not None and digest(template) == hash_ else None


def unpacked(text: str | None) -> dict[str, Any] | None:
    """Returns the template in a value that ``packed`` wrote or that a user has set. None: the value
    cannot be read."""
    if text is None or len(text) > LARGEST_PACKED:
        return None
    try:
        reader = zlib.decompressobj()
        data = reader.decompress(base64.b64decode(text, validate=True), _LARGEST_UNPACKED)
        if not reader.eof or without_depths(data) != data:
            return None  # It is cut, too long, or nested too deeply to be compared.
        template = json.loads(data)
    except (binascii.Error, zlib.error, ValueError):
        return None
    return template if isinstance(template, dict) else None
