"""Words for people, kept short enough for a status."""

from initpipeline.api.names import MAX_MESSAGE_LENGTH


def clip(text: str) -> str:
    """At most 1 KiB of UTF-8, marked where it was cut."""
    data = text.strip().encode()
    if len(data) <= MAX_MESSAGE_LENGTH:
        return data.decode()
    mark = " ..."
    return data[: MAX_MESSAGE_LENGTH - len(mark)].decode(errors="ignore") + mark
