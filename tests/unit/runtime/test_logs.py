"""Log lines: for a person on a terminal, as JSON for programs."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest

from initpipeline.runtime import logs
from tests.builders import Raw


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


Configure = Callable[..., io.StringIO]


@pytest.fixture
def configure() -> Iterator[Configure]:
    """Logging as it is configured, until the end of the test."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    levels = {name: logging.getLogger(name).level for name in ("kopf", "kubernetes", "asyncio")}

    def configure(form: str, level: str = "info", terminal: bool = False) -> io.StringIO:
        stream = Terminal() if terminal else io.StringIO()
        logs.configure(form, level, stream)  # type: ignore[arg-type]
        return stream

    root.handlers.clear()  # pytest's own, which force=True would close
    with warnings.catch_warnings():
        yield configure
    logging.captureWarnings(False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


def parsed(stream: io.StringIO) -> list[Raw]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail(logger: str) -> None:
    try:
        raise ValueError("inside")
    except ValueError:
        logging.getLogger(logger).exception("it failed: inside")


def test_json_has_message_and_fields(configure: Configure) -> None:
    stream = configure("json")
    logging.getLogger("initpipeline.x").info("run started", extra={"run": 3})
    [line] = parsed(stream)
    time = datetime.fromisoformat(line.pop("time"))
    assert time.tzinfo is not None, "nobody can tell when that was"
    assert line == {
        "level": "INFO",
        "logger": "initpipeline.x",
        "message": "run started",
        "run": 3,
    }


def test_a_message_of_several_lines_is_one_line_of_json(configure: Configure) -> None:
    stream = configure("json")
    logging.getLogger("initpipeline").warning("one\ntwo")
    [line] = parsed(stream)
    assert line["message"] == "one\ntwo"


@pytest.mark.parametrize(
    ("form", "terminal", "json_"),
    [
        ("auto", True, False),
        ("auto", False, True),
        ("plain", False, False),
        ("json", True, True),
    ],
)
def test_form(configure: Configure, form: str, terminal: bool, json_: bool) -> None:
    stream = configure(form, terminal=terminal)
    logging.getLogger("initpipeline").info("run started", extra={"run": 3})
    assert stream.getvalue().startswith("{") is json_
    if not json_:
        assert stream.getvalue().endswith("INFO    run started run=3\n")


@pytest.mark.parametrize("name", ["kopf.objects", "kubernetes.aio", "asyncio", "aiohttp.access"])
def test_libraries_speak_from_warning_on(configure: Configure, name: str) -> None:
    stream = configure("json", "debug")
    logging.getLogger(name).info("noise")
    logging.getLogger(name).warning("trouble")
    assert [line["message"] for line in parsed(stream)] == ["trouble"]


def test_kopfs_own_tracebacks_are_left_out(configure: Configure) -> None:
    stream = configure("plain")
    fail("kopf._cogs.aiokits.aiotasks")
    assert stream.getvalue().endswith("it failed: inside\n"), "more than a line"
    assert len(stream.getvalue().splitlines()) == 1


@pytest.mark.parametrize(("level", "told"), [("info", 0), ("debug", 1)])
def test_kopfs_stumble_at_the_end_of_a_watch_is_for_who_looks_for_a_fault(
    configure: Configure, level: str, told: int
) -> None:
    stream = configure("json", level)
    logging.getLogger("asyncio").error("Exception in callback stream.request_cancel_callback()")
    assert len(parsed(stream)) == told


@pytest.mark.parametrize(
    ("logger", "level"),
    [
        pytest.param("kopf", "debug", id="Kopf's, for who looks for a fault"),
        pytest.param("initpipeline", "info", id="our own: they are faults"),
    ],
)
def test_other_tracebacks_are_told(configure: Configure, logger: str, level: str) -> None:
    stream = configure("json", level)
    fail(logger)
    [line] = parsed(stream)
    assert "ValueError: inside" in line["exc_info"]


def test_python_warnings_are_log_lines(configure: Configure) -> None:
    stream = configure("json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("mind the gap", stacklevel=1)
    [line] = parsed(stream)
    assert "mind the gap" in line["message"]
