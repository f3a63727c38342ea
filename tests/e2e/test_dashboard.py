"""The dashboard in a browser, on a real kubelet."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from tests.browser.browser import Browser, browser
from tests.browser.dashboard import serving
from tests.cluster.cluster import Cluster
from tests.cluster.plan import Component
from tests.e2e import target
from tests.e2e.conftest import E2EEnv
from tests.e2e.templates import container, template
from tests.operator_process import OperatorProcess

pytestmark = pytest.mark.long

WAIT: Final = container("wait-for-database", "echo waiting for db:5432; sleep 1; echo connected")


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
