"""The pages in a browser, with made-up objects: accessibility, sizes, keys, links, logs, tabs."""

import asyncio
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final, cast

import pytest
from selenium.webdriver.common.keys import Keys

from initpipeline.api.raw import Raw
from initpipeline.plugin.cluster.client import ClusterClient, Kind
from initpipeline.plugin.dashboard import server
from initpipeline.plugin.dashboard.live import Entry, Store
from initpipeline.plugin.dashboard.server import Dashboard
from initpipeline.plugin.report.formatting import Mode, Moment
from tests.browser.browser import Browser, browser
from tests.builders import NAME, NAMESPACE, End, at, fresh_pod, running_pod
from tests.unit.core.simulation import started

pytestmark = pytest.mark.long

PATH: Final = f"/{NAMESPACE}/{NAME}"
LONG: Final = "b" * 63
EVIL: Final = "<img src=x onerror=alert(1)><script>alert(2)</script>"
TABS: Final = 12
"""More than the connections that a browser opens to a host."""


@dataclass
class Logs:
    """A cluster whose containers have these logs. A log may be silent, and not end."""

    chunks: list[bytes] = field(default_factory=list)
    silent: bool = False
    pod: Raw = field(default_factory=dict)
    second: int = 0
    """In the timestamp of the first line, which identifies the log."""
    reading: int = 0
    """Logs that are being read at the moment."""
    ended: threading.Event = field(default_factory=threading.Event)

    def is_allowed(self, *_: str) -> bool:
        return True

    def read_log(self, *_: str, **__: Any) -> Iterator[bytes]:
        self.reading += 1
        try:
            for number, chunk in enumerate(self.chunks):
                yield f"2026-01-01T00:00:{self.second:02}.{number:09}Z ".encode() + chunk
            if self.silent:
                self.ended.wait()
        finally:
            self.reading -= 1

    def find_pod(self, *_: str) -> Raw:
        return self.pod

    def interrupt_log(self) -> None:
        self.ended.set()


@dataclass
class Served:
    """A dashboard with a store that the test fills."""

    store: Store
    logs: Logs
    address: str
    loop: asyncio.AbstractEventLoop

    def run(self, function: Callable[..., None], *arguments: object) -> None:
        """Calls a function of the store, as a watch does."""
        self.loop.call_soon_threadsafe(function, *arguments)


@contextmanager
def served() -> Iterator[Served]:
    """Serves a dashboard in a thread."""
    store, logs = Store(now=lambda: at(60)), Logs()
    dashboard = Dashboard(
        lambda: cast(ClusterClient, logs), lambda: "token", None, "context test", store=store
    )
    ready, stopped = threading.Event(), asyncio.Event()
    made: list[Served] = []

    async def serve() -> None:
        listener = server.listen(0)
        port = listener.getsockname()[1]
        runner = await server.started_runner(dashboard, listener)
        address = f"http://127.0.0.1:{port}/?token={dashboard.known.token}"
        made.append(Served(store, logs, address, asyncio.get_running_loop()))
        ready.set()
        await stopped.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait()
    try:
        yield made[0]
    finally:
        made[0].loop.call_soon_threadsafe(stopped.set)
        thread.join()


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    """Starts a browser for all tests of this module."""
    with browser() as made:
        yield made


@pytest.fixture
def of() -> Iterator[Served]:
    """Serves a pipeline whose second step has failed, and two that are Ready."""
    with served() as made:
        failed = fresh_pod().init("one", exit=0).init("two", exit=3, message=f"locked {EVIL}")
        failed = failed.phase("Failed").restarts("Never")
        made.logs.pod = failed.raw()
        show(made, (NAME, started(failed).pipeline.raw(), failed.raw()))
        yield made


def show(made: Served, *more: tuple[str, Raw, Raw]) -> None:
    """Lets the watches report these pipelines, and two that are Ready."""
    ready = started(running_pod()).pipeline.raw()
    pipelines, pods = [], []
    for name, raw, pod in (*more, ("a", ready, running_pod().raw()), (LONG, ready, {})):
        metadata = {**raw["metadata"], "name": name}
        pipelines.append(Entry.read({**raw, "metadata": metadata}))
        if pod:
            pods.append({**pod, "metadata": {**pod["metadata"], "name": name}})
    made.run(made.store.replace, Kind.PIPELINES, pipelines)
    made.run(made.store.replace, Kind.PODS, pods)
    made.run(made.store.replace, Kind.EVENTS, [])


@pytest.fixture
def page(window: Browser, of: Served) -> Iterator[Browser]:
    """Opens the list. No page may log an error, such as a violation of the
    Content-Security-Policy."""
    window.resize(1280)
    window.colours("light")
    window.start(of.address)
    window.until_text("3 of 3", "#counts")
    yield window
    assert window.errors() == []


def clock(seconds: float) -> Callable[[], datetime]:
    """Returns a clock of the API server that runs, and shows at(seconds) now."""
    began = time.monotonic()
    return lambda: at(seconds + time.monotonic() - began)


def go(page: Browser, path: str) -> None:
    page.run("location.assign(arguments[0])", path)
    page.until(lambda: page.path == path, f"the address is {path}")


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", PATH, f"{PATH}/run/1", f"{PATH}/logs/two", "/default/c"])
@pytest.mark.parametrize("width", [360, 1280, 2560])
def test_page_is_accessible_and_fits_the_window(
    page: Browser, of: Served, path: str, width: int, colours: str
) -> None:
    of.logs.chunks = [b"applying 0042\n", b"x" * 3000 + b"\n"]
    page.colours(colours)
    page.resize(width)
    go(page, path)
    page.until(lambda: page.all("h1"), "the page has a heading")
    page.run("for (const one of document.querySelectorAll('details')) one.open = true")
    assert page.violations() == []
    assert page.overflow() == 0


def test_keys_search_move_and_open(page: Browser) -> None:
    page.press("/")
    assert page.run("return document.activeElement.id") == "text"
    page.press("demo")
    page.until_text("1 of 3", "#counts")
    assert page.path == "/?text=demo"
    page.press(Keys.ENTER, Keys.ENTER)
    page.until(lambda: page.path == PATH, "the pipeline is open")
    page.press("?")
    page.until_text("This help", "#help")
    page.press(Keys.ESCAPE)
    assert not page.all("#help")
    page.driver.back()
    page.until(lambda: page.path == "/?text=demo", "the list has its filter again")
    page.until_text("1 of 3", "#counts")
    page.driver.forward()
    page.until(lambda: page.path == PATH, "the pipeline is open again")


def test_keys_move_between_rows(page: Browser) -> None:
    page.press("j")
    assert page.focused() == f"{NAMESPACE}/{NAME}"
    page.press("j", "j", "j")
    assert page.focused() == f"{NAMESPACE}/{LONG}"
    page.press("k", Keys.ENTER)
    page.until(lambda: page.path == f"/{NAMESPACE}/a", "the pipeline is open")


def test_all_controls_are_reached_by_tab_and_have_names(page: Browser) -> None:
    go(page, PATH)
    page.until_text("Rerun")
    names = []
    for _ in range(40):
        page.press(Keys.TAB)
        if page.run("return document.activeElement === document.body"):
            break
        names.append(page.focused())
    assert names[0] == "Skip to the content"
    assert {"Rerun", "Suspend", "Zoom", "Timeline", "YAML", "Try a change"} <= set(names)
    assert "" not in names


def test_link_with_a_fragment_opens_the_run(page: Browser, of: Served) -> None:
    go(page, f"/{NAMESPACE}/a")
    page.open(f"{of.address.partition('/?')[0]}/#{PATH}/run/1")
    page.until(lambda: page.path == f"{PATH}/run/1", "the run is open")
    assert "exit 3" in page.text("#run-1 dl")
    page.run("location.hash = arguments[0]", f"#/{NAMESPACE}/a")
    page.until(lambda: page.path == f"/{NAMESPACE}/a", "the other pipeline is open")


def test_chips_filter_by_condition(page: Browser) -> None:
    assert page.text("#attention") == "1 of 3 needs attention."
    page.click("#chips [data-summary=Ready]")
    page.until_text("2 of 3", "#counts")
    assert page.path == "/?summary=Ready"
    page.click("#chips [data-summary=Ready]")
    page.until_text("3 of 3", "#counts")


def test_step_that_runs_for_more_than_ten_minutes_without_a_timeout_is_named(
    page: Browser, of: Served
) -> None:
    pod = fresh_pod().init("one", running=True, start=20)

    def open_at(seconds: float, **policies: Any) -> None:
        of.store.now = clock(seconds)
        show(of, (NAME, started(pod, **policies).pipeline.raw(), pod.raw()))
        page.open(of.address.partition("/?")[0])
        page.until_text("None of 3 needs attention.", "#attention")

    open_at(900, initDeadlineSeconds=9000)
    assert "a step" not in page.text("#attention")
    open_at(616)
    assert "a step" not in page.text("#attention")
    page.until_text(f"default/{NAME} has run a step without a timeout", "#attention", 15)


def test_failing_pipeline_that_is_retried_needs_attention(page: Browser, of: Served) -> None:
    last = End(3, 20, 24)
    failing = fresh_pod().init("one", waiting="CrashLoopBackOff", restarts=1, last=last)
    waiting = started(fresh_pod()).pipeline.raw()
    show(of, ("c", started(failing).pipeline.raw(), failing.raw()), ("b", waiting, {}))
    page.until_text("4 of 4", "#counts")
    assert page.text("#attention") == "1 of 4 needs attention."
    names = [one.text.partition("\n")[0] for one in page.all("#rows > li")]
    assert names[:3] == [f"{NAMESPACE}/{name}" for name in ("c", "b", "a")]
    page.click("#chips [data-summary=Failing]")
    page.until_text("1 of 4", "#counts")


@pytest.mark.parametrize("mode", list(Mode))
def test_script_writes_moments_like_the_terminal(page: Browser, mode: Mode) -> None:
    now, seconds = at(0.9), [-200_000, -7384, -61, -60, -0.5, 0, 1, 59.9, 600, 3601, 200_000]
    script = "return arguments[0].map((time) => written(time, arguments[1], arguments[2]))"
    times = [at(one).timestamp() * 1000 for one in seconds]
    found = page.run(script, times, mode, now.timestamp() * 1000)
    assert found == [Moment(at(one), mode).text(now) for one in seconds]


def test_change_that_arrives_does_not_move_the_page(page: Browser, of: Served) -> None:
    go(page, PATH)
    page.click("#part-history summary")
    page.until(lambda: page.run("return scrollY") > 0, "the history is visible")
    page.run("scrollTo(0, 0)")
    seen = fresh_pod(2).init("one", running=True, start=20)
    failed = fresh_pod().init("one", exit=3).phase("Failed").restarts("Never")
    state = started(failed).token("again").reconcile(None, 20).reconcile(seen, 30)
    show(of, (NAME, state.pipeline.raw(), seen.raw()))
    page.until_text("Run 2", "#part-history")
    assert page.run("return document.activeElement.textContent").startswith("Run 1")
    assert page.run("return scrollY") == 0


def test_durations_of_one_page_have_one_clock_and_agree(page: Browser, of: Served) -> None:
    """The page is open for longer than the interval in which the server renders it."""
    now = of.store.now = clock(160.6)
    pod = fresh_pod().init("one", running=True, start=20)
    show(of, (NAME, started(pod).pipeline.raw(), pod.raw()))
    go(page, PATH)
    page.click("[data-action=rerun]")
    page.until_text("which has been running for", "#confirm")
    texts = """
        const of = (selector) => document.querySelector(selector).textContent;
        const row = (number) => document.querySelectorAll("svg .message")[number].textContent;
        return [of("#part-head .quiet"), row(0), of("#part-history summary + dl"),
                of("#part-steps tbody tr"), row(1), of("#confirm-effects"),
                of("#part-head .sentence")];
    """

    def seconds() -> list[int]:
        """Returns the ages in one moment: three of the run, and four of its step."""
        found = [re.search(r"(?:(\d+)m)?(\d+)s", one) for one in page.run(texts)]
        return [int(one[1] or 0) * 60 + int(one[2]) for one in found if one]

    seen = {tuple(seconds())}
    while max(seen)[0] < 160 + server.REDRAW_SECONDS + 2:
        run, _, _, step, _, _, _ = found = seconds()
        assert found == [run] * 3 + [step] * 4
        assert run - step == 20
        seen.add(tuple(found))
    behind = now() - at(seconds()[0])
    assert timedelta(0) <= behind < timedelta(seconds=2)


def test_hostile_text_is_shown_as_text(page: Browser, of: Served) -> None:
    of.logs.chunks = [EVIL.encode() + b"\n"]
    for path in ("/", PATH, f"{PATH}/run/1", f"{PATH}/logs/two"):
        go(page, path)
        page.until_text(EVIL)
        assert not page.all("img[src=x]")


def test_line_of_six_megabytes_is_cut_and_found(page: Browser, of: Served) -> None:
    of.logs.chunks = [b"first\n", b"x" * 6_000_000 + b"\n", b"last\n"]
    go(page, f"{PATH}/logs/two")
    page.until_text("end of the log", "#connection")
    assert len(page.text("#log")) < 5000
    assert "5995904 more bytes" in page.text("#log")
    page.press("/", "last")
    page.until_text("1 line matches", "#counts")


def test_silent_log_is_not_read_any_more_after_the_page_is_left(page: Browser, of: Served) -> None:
    of.logs.chunks, of.logs.silent = [b"one\n"], True
    go(page, f"{PATH}/logs/two")
    page.until_text("one", "#log")
    assert of.logs.reading == 1
    go(page, "/")
    page.until(lambda: of.logs.reading == 0, "the log is not read")


@contextmanager
def hidden(page: Browser, logs: Logs) -> Iterator[None]:
    """Hides the tab of a log in the context, in which the log is not read."""
    first = page.driver.current_window_handle
    page.driver.switch_to.new_window("tab")
    page.until(lambda: logs.reading == 0, "the log is not read while its tab is hidden")
    logs.ended.clear()
    yield
    page.driver.close()
    page.driver.switch_to.window(first)


def test_log_of_a_hidden_tab_is_paused_and_continues_without_losing_lines(
    page: Browser, of: Served
) -> None:
    of.logs.chunks, of.logs.silent = [b"one\n", b"two\n", b"begun "], True
    go(page, f"{PATH}/logs/two")
    page.until_text("two\nbegun", "#log")
    with hidden(page, of.logs):
        of.logs.chunks = [b"one\n", b"two\n", b"begun and ended\n", b"two\n"]
    page.until_text("live", "#connection")
    page.until(lambda: page.text("#log") == "one\ntwo\nbegun and ended\ntwo\n", "all lines")


def test_log_of_a_later_attempt_follows_after_a_note(page: Browser, of: Served) -> None:
    of.logs.chunks, of.logs.silent = [b"one\n"], True
    go(page, f"{PATH}/logs/two")
    page.until_text("one", "#log")
    with hidden(page, of.logs):
        of.logs.second = 1
    page.until(lambda: page.text("#log").count("one\n") == 2, "both logs")
    assert "the log starts again" in page.text("#log")


def test_changes_are_announced_and_the_focus_stays(page: Browser, of: Served) -> None:
    go(page, f"/{NAMESPACE}/a")
    page.until_text("live", "#connection")
    page.run("document.querySelector('#run-1 summary').focus()")
    failed = fresh_pod().init("one", exit=3).phase("Failed").restarts("Never")
    raw = started(failed).pipeline.raw()
    raw["metadata"]["name"] = "a"
    pod = {**failed.raw(), "metadata": {**failed.raw()["metadata"], "name": "a"}}
    of.run(of.store.put, Kind.PODS, pod)
    of.run(of.store.put, Kind.PIPELINES, Entry.read(raw))
    page.until_text("Stalled, run 1", "#announcement")
    assert page.run("return document.activeElement.parentElement.id") == "run-1-details"


def test_screen_reader_finds_landmarks_names_and_headings_in_order(page: Browser) -> None:
    for path in ("/", PATH, f"{PATH}/logs/two"):
        go(page, path)
        page.until(lambda: page.all("h1"), "the page has a heading")
        tree = page.accessibility_tree()
        roles = [role for role, _, _ in tree]
        assert {"banner", "main", "navigation", "status"} <= set(roles)
        for role, name, _ in tree:
            if role in ("button", "link", "textbox", "searchbox", "combobox", "navigation"):
                assert name, f"a {role} of {path} has no name"
        levels = [level for role, _, level in tree if role == "heading"]
        assert levels[0] == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))


def test_narrow_list_shows_its_filters_on_request(page: Browser) -> None:
    page.resize(780)
    assert not page.all("#namespace")
    assert len(page.all("#rows > li")) == 3
    page.click("#more")
    assert page.all("#namespace")
    assert page.run("return document.getElementById('more').ariaExpanded") == "true"
    page.click("#chips [data-summary=Ready]")
    page.until_text("2 of 3", "#counts")
    assert page.violations() == []


def test_each_of_many_tabs_is_live_when_it_is_visible(page: Browser, of: Served) -> None:
    first = page.driver.current_window_handle
    for _ in range(TABS - 1):
        page.driver.switch_to.new_window("tab")
        page.open(of.address.partition("/?")[0])
        page.until_text("live", "#connection")
    of.run(of.store.remove, Kind.PIPELINES, of.store.pipelines[NAMESPACE, "a"].raw)
    for handle in page.driver.window_handles:
        page.driver.switch_to.window(handle)
        page.until_text("2 of 2", "#counts")
        if handle != first:
            page.driver.close()
    page.driver.switch_to.window(first)


def test_deletion_is_shown_on_the_open_page(page: Browser, of: Served) -> None:
    go(page, PATH)
    page.until_text("Rerun")
    of.run(of.store.remove, Kind.PIPELINES, of.store.pipelines[NAMESPACE, NAME].raw)
    page.until_text("was deleted while this page was open")
    assert not page.all("[data-action]")
    assert page.violations() == []


def test_lost_connection_is_shown_until_it_is_back(page: Browser, of: Served) -> None:
    of.run(of.store.fail, Kind.PIPELINES, "the credentials have expired: log in again")
    page.until_text("log in again")
    show(of)
    page.until(lambda: "log in again" not in page.text(), "the problem is gone")
