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


HOSTILE = [
    pytest.param("one\n12:00:00 INFO    run started", id="line feed"),
    pytest.param("one\r12:00:00 INFO    run started", id="carriage return"),
    pytest.param("\x1b[2J\x1b]0;title\x07", id="control sequence"),
    pytest.param("\x9b2J\x85two", id="C1"),
    pytest.param("one\u2028two\u2029three", id="line separators of Unicode"),
    pytest.param("one\v\f\t\x00two", id="other controls"),
    pytest.param("\u202egnp.exe", id="reordering"),
    pytest.param("\udcff", id="lone surrogate"),
]


class TestInjection:
    """No value can begin a line, send a control sequence, or look like another field."""

    @staticmethod
    def assert_one_safe_line(text: str) -> str:
        [line] = text.splitlines()
        assert text == line + "\n"
        assert line.isprintable(), repr(line)
        return line

    @pytest.mark.parametrize("form", ["plain", "json"])
    @pytest.mark.parametrize("text", HOSTILE)
    def test_hostile_text_stays_in_its_line(
        self, configure: Configure, text: str, form: str
    ) -> None:
        for extra, message in (({"pipeline": text, "error": text}, "failed"), ({}, text)):
            stream = configure(form)
            logging.getLogger("initpipeline").warning(message, extra=extra)
            self.assert_one_safe_line(stream.getvalue())

    @pytest.mark.parametrize("form", ["plain", "json"])
    def test_hostile_argument_of_a_library_stays_in_its_line(
        self, configure: Configure, form: str
    ) -> None:
        stream = configure(form)
        logging.getLogger("kopf").warning("watch of %s failed", "a\nb\x1b[0m")
        self.assert_one_safe_line(stream.getvalue())

    @pytest.mark.parametrize(
        ("value", "written"),
        [
            ("team-a/demo#3", "team-a/demo#3"),
            (3, "3"),
            ("", '""'),
            ("no run=2 here", '"no run=2 here"'),
            ("a=b", '"a=b"'),
            ('" run=2 "', r'"\" run=2 \""'),
            ("back\\slash", r'"back\\slash"'),
            ("a\u00a0run=2", '"a\u00a0run=2"'),
        ],
    )
    def test_value_is_quoted_if_it_could_look_like_two_fields(
        self, configure: Configure, value: object, written: str
    ) -> None:
        stream = configure("plain")
        logging.getLogger("initpipeline").info("x", extra={"error": value})
        assert stream.getvalue().endswith(f" x error={written}\n")

    def test_traceback_is_indented_and_without_control_characters(
        self, configure: Configure
    ) -> None:
        stream = configure("plain")
        try:
            raise ValueError("inside\n12:00:00 INFO    forged\x1b[2J\r")
        except ValueError:
            logging.getLogger("initpipeline").exception("it failed")
        first, *rest = stream.getvalue().rstrip("\n").split("\n")
        assert first.endswith("it failed")
        assert any("forged" in line for line in rest)
        assert all(line.startswith("    ") and line.isprintable() for line in rest)
