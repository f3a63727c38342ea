"""The dashboard in a browser, on a real kubelet."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from tests.browser.browser import Browser, browser
from tests.browser.dashboard import serving
from tests.cluster.audit import requests
from tests.cluster.cluster import Cluster
from tests.cluster.plan import Component
from tests.e2e import target
from tests.e2e.conftest import E2EEnv
from tests.e2e.templates import container, template
from tests.operator_process import OperatorProcess

pytestmark = pytest.mark.long

WAIT: Final = container("wait-for-database", "echo waiting for db:5432; sleep 1; echo connected")
SILENT: Final = "echo listening on :8080; exec sleep 3600"


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    """Starts a browser for all tests of this module."""
    with browser() as made:
        yield made


@pytest.fixture
def page(window: Browser, cluster: target.Target, env: E2EEnv) -> Iterator[Browser]:
    """Opens the dashboard of the test's namespace. No page may log an error."""
    with serving(cluster.kubeconfig, "-n", env.namespace) as served:
        window.resize(1280)
        window.colours("light")
        window.open(served.address)
        window.errors()
        yield window
        assert window.errors() == []


@contextmanager
def not_reloaded(page: Browser) -> Iterator[None]:
    """Fails if the page is loaded again in the context."""
    page.run("window.loadedOnce = true")
    yield
    assert page.run("return window.loadedOnce === true")


def act(page: Browser, action: str, *effects: str) -> None:
    """Starts an action, and confirms it after its effects were shown."""
    page.click(f"[data-action={action}]")
    for effect in effects:
        page.until_text(effect, "#confirm")
    page.click("#confirm-yes")


@pytest.mark.usefixtures("operator")
def test_log_is_searched_followed_and_released(page: Browser, env: E2EEnv, node: Cluster) -> None:
    env.create_ready("shop", template(WAIT, app=SILENT))
    before = node.audit_log.stat().st_size

    def ended() -> int:
        """Returns how many logs of app containers the API server no longer sends."""
        logs = [one for one in requests(node.audit_log, before) if one.subresource == "log"]
        return sum(one.namespace == env.namespace for one in logs)

    page.click("#rows a")
    page.click("#part-logs li:first-child a")
    page.until_text("waiting for db:5432\nconnected", "#log")
    page.until_text("end of the log", "#connection")
    page.press("/", "DB:")
    page.until_text("1 line", "#counts")
    finished = page.until(ended, "the first log has ended")
    page.driver.back()
    page.click("#part-logs li:last-child a")
    page.until_text("listening on :8080", "#log")
    page.until_text("live", "#connection")
    assert ended() == finished
    page.driver.back()
    page.until(lambda: ended() > finished, "the API server no longer sends the log")


def test_stopped_operator_is_reported_until_it_runs(
    page: Browser, env: E2EEnv, operator: OperatorProcess
) -> None:
    env.create_ready("shop", template(WAIT))
    page.click("#rows a")
    page.until_text("the Pod is Ready", "#part-head")
    with not_reloaded(page):
        operator.stop()
        act(page, "rerun", "interrupts run 1")
        page.until_text("operator", "#part-head [role=alert]")
        operator.start()
        page.until_text("run 2, Requested", "#part-head")
        page.until(lambda: not page.all("#part-head [role=alert]"), "the message is gone")


@pytest.mark.usefixtures("operator")
def test_api_server_that_stops_is_reported_until_it_is_back(
    page: Browser, env: E2EEnv, node: Cluster
) -> None:
    env.create_ready("shop", template(WAIT))
    page.click("#rows a")
    page.until_text("the Pod is Ready", "#part-head")
    with not_reloaded(page):
        node.stop(Component.API_SERVER)
        page.until_text("InitPipelines are not current", "#part-problems")
        assert "the Pod is Ready" in page.text("#part-head")
        node.start(Component.API_SERVER)
        page.until(lambda: not page.text("#part-problems"), "the problem is gone")
        env.set("shop", suspend=True)
        page.until_text("Suspended", "#part-head")
