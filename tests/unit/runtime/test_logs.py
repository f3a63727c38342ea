"""Log lines: plain on a terminal, otherwise JSON."""

import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime

import pytest

from initpipeline.api.raw import Raw
from initpipeline.runtime import logs


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


Configure = Callable[..., io.StringIO]


@pytest.fixture
def configure() -> Iterator[Configure]:
    """Returns a function that configures logging until the end of the test."""
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


def test_json_line_has_message_and_fields(configure: Configure) -> None:
    stream = configure("json")
    logging.getLogger("initpipeline.x").info("run started", extra={"run": 3})
    [line] = parsed(stream)
    time = datetime.fromisoformat(line.pop("time"))
    assert time.tzinfo is not None, "the time has no zone"
    assert line == {
        "level": "INFO",
        "logger": "initpipeline.x",
        "message": "run started",
        "run": 3,
    }


def test_message_of_several_lines_is_one_json_line(configure: Configure) -> None:
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
def test_form_is_chosen_by_setting_and_terminal(
    configure: Configure, form: str, terminal: bool, json_: bool
) -> None:
    stream = configure(form, terminal=terminal)
    logging.getLogger("initpipeline").info("run started", extra={"run": 3})
    assert stream.getvalue().startswith("{") is json_
    if not json_:
        assert stream.getvalue().endswith("INFO    run started run=3\n")


@pytest.mark.parametrize("name", ["kopf.objects", "kubernetes.aio", "asyncio", "aiohttp.access"])
def test_libraries_log_warnings_and_errors_only(configure: Configure, name: str) -> None:
    stream = configure("json", "debug")
    logging.getLogger(name).info("noise")
    logging.getLogger(name).warning("trouble")
    assert [line["message"] for line in parsed(stream)] == ["trouble"]


def test_kopf_traceback_is_omitted(configure: Configure) -> None:
    stream = configure("plain")
    fail("kopf._cogs.aiokits.aiotasks")
    assert stream.getvalue().endswith("it failed: inside\n"), "more than a line"
    assert len(stream.getvalue().splitlines()) == 1


@pytest.mark.parametrize(("level", "lines"), [("info", 0), ("debug", 1)])
@pytest.mark.parametrize(
    "message",
    [
        "Exception in callback stream.request_cancel_callback()",
        "an error occurred during closing of asynchronous generator <async_generator object "
        "infinite_watch at 0x7fe48c718580>",
    ],
)
def test_failure_of_a_cancelled_watch_is_logged_at_debug_only(
    configure: Configure, level: str, lines: int, message: str
) -> None:
    stream = configure("json", level)
    logging.getLogger("asyncio").error(message)
    assert len(parsed(stream)) == lines


def test_error_of_asyncio_is_logged(configure: Configure) -> None:
    stream = configure("json")
    logging.getLogger("asyncio").error("Task exception was never retrieved")
    assert len(parsed(stream)) == 1


@pytest.mark.parametrize(
    ("logger", "level"),
    [
        pytest.param("kopf", "debug", id="Kopf's at level debug"),
        pytest.param("initpipeline", "info", id="the operator's own"),
    ],
)
def test_other_traceback_is_logged(configure: Configure, logger: str, level: str) -> None:
    stream = configure("json", level)
    fail(logger)
    [line] = parsed(stream)
    assert "ValueError: inside" in line["exc_info"]


def test_python_warning_is_logged(configure: Configure) -> None:
    stream = configure("json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("mind the gap", stacklevel=1)
    [line] = parsed(stream)
    assert "mind the gap" in line["message"]
