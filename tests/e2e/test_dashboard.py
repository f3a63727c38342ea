"""The dashboard in a browser, on a real kubelet and under thousands of pipelines."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from kubernetes.client import ApiClient, CoreV1Api
from selenium.webdriver.common.keys import Keys

from initpipeline.api.raw import Raw
from initpipeline.api.reasons import Reason
from tests.api_client import Pipelines, connected
from tests.bench.environment import prepared
from tests.bench.workloads import NAMESPACE, PIPELINE, Form
from tests.browser.browser import Browser, browser
from tests.browser.dashboard import serving
from tests.cluster.audit import requests
from tests.cluster.cluster import Cluster
from tests.cluster.plan import Component
from tests.cluster.progress import silent
from tests.e2e import target
from tests.e2e.e2e_env import E2EEnv
from tests.operator_process import OperatorProcess
from tests.statuses import run_number, status_of
from tests.templates import container, template

pytestmark = pytest.mark.long

SCREENSHOTS: Final = os.environ.get("INITPIPELINE_SCREENSHOTS", "")
"""The folder of the screenshots. Empty: none are taken."""
BROKEN: Final = container("migrate", "echo applying 0042; echo database is locked >&2; exit 3")
REPAIRED: Final = container("migrate", "echo applying 0042; sleep 1; echo done")
WAIT: Final = container("wait-for-database", "echo waiting for db:5432; sleep 1; echo connected")
SILENT: Final = "echo listening on :8080; exec sleep 3600"
FAKE_PIPELINES: Final = 2000


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


def take(page: Browser, name: str) -> None:
    """Writes a screenshot, if they are wanted."""
    if SCREENSHOTS:
        page.screenshot(Path(SCREENSHOTS) / f"dashboard-{name}.png")


def is_stalled(state: Raw) -> bool:
    return status_of(state, "Stalled") == "True"


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


@pytest.mark.namespace(name="online-shop")
@pytest.mark.usefixtures("operator")
def test_pipeline_fails_is_repaired_rerun_and_suspended_on_its_page(
    page: Browser, env: E2EEnv
) -> None:
    env.create("checkout", template(WAIT, BROKEN, app=SILENT, restartPolicy="Never"))
    env.create("catalog", template(WAIT, app=SILENT))
    env.create("search", template(container("build-index", "echo indexing; sleep 600")))
    env.create("reports", template(WAIT), suspend=True)
    retried = container("fetch", "echo connection refused >&2; exit 7")
    env.create("feed", template(retried, restartPolicy="Never"), backoffLimit=5)
    env.pipelines.wait("checkout", "Stalled", is_stalled)
    env.wait_ready("catalog", run=1)
    env.pipelines.wait("feed", "two failed runs", lambda state: run_number(state) == 2)

    page.until_text("Stalled", "#rows > :first-child")
    assert "checkout" in page.text("#rows > :first-child")
    page.until_text("5 of 5", "#counts")
    page.until_text("RerunBackOff", "#rows")
    page.resize(1280, 620)
    take(page, "list")
    page.resize(1280)
    page.click("#rows > :first-child a")
    page.until_text("database is locked", "#part-head")
    with not_reloaded(page):
        _try_a_change(page)
        env.set("checkout", template=template(WAIT, REPAIRED, app=SILENT, restartPolicy="Never"))
        page.until_text("the Pod is Ready", "#part-head")
        act(page, "rerun", "interrupts run 2, Ready for", "run 3 starts (Requested)")
        page.until_text("run 3, Requested", "#part-head")
        page.until_text("the Pod is Ready", "#part-head")
        page.until(lambda: not page.text("#result"), "the result of the action has disappeared")
        page.run("scrollTo(0, 0)")
        take(page, "pipeline")
        page.colours("dark")
        page.run("document.getElementById('part-timeline').scrollIntoView()")
        take(page, "timeline-dark")
        page.colours("light")
        act(page, "suspend", "interrupts run 3, Ready for", "the Pod is deleted")
        page.until_text("Suspended", "#part-head")
        act(page, "resume", "run 4 starts (Resumed)")
        page.until_text("run 4, Resumed", "#part-head")
        page.until_text("the Pod is Ready", "#part-head")
        # What the failed step printed in run 1, long after its Pod was deleted.
        page.click("#run-1 summary")
        page.until_text("database is locked", "#run-1 pre")
    assert page.violations() == []


def _try_a_change(page: Browser) -> None:
    """Edits the template, and checks the result of the dry run."""
    page.click("#edit-details summary")
    page.until(lambda: page.run("return document.getElementById('edit-spec').value"), "the spec")
    page.run("""
        const spec = document.getElementById("edit-spec");
        spec.value = spec.value.replace("exit 3", "exit 0");
    """)
    page.click("#edit-form button")
    page.until_text("run 2 starts (SpecChanged)", "#edit-result")
    page.until_text("spec.initContainers[1].command", "#edit-result")
    page.run("document.getElementById('edit-spec').value = 'kind: ['")
    page.click("#edit-form button")
    page.until_text("error: the text cannot be read", "#edit-result")
    assert len(page.errors()) == 1, "the browser logs the refused request"
    page.click("#edit-details summary")


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
        page.until_text("operator", "#part-head .absent")
        page.until_text("The operator does not appear to be running", "#announcement")
        operator.start()
        page.until_text("run 2, Requested", "#part-head")
        page.until(lambda: not page.all("#part-head .absent"), "the message is gone")


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


def test_list_of_two_thousand_pipelines_is_filtered_and_current(window: Browser) -> None:
    with prepared(PIPELINE, Form.LIFE, silent) as made:
        with connected(made.cluster.kubeconfig) as client, ThreadPoolExecutor(8) as pool:
            create = Pipelines(client, NAMESPACE).create
            manifests = (
                PIPELINE.manifest(f"service-{number:04}", Form.LIFE)
                for number in range(FAKE_PIPELINES)
            )
            list(pool.map(create, manifests))
        with serving(made.cluster.kubeconfig, "-A") as served:
            window.resize(1280)
            window.open(served.address)
            window.until_text(f"{FAKE_PIPELINES} of {FAKE_PIPELINES}", "#counts", 120)
            with connected(made.cluster.kubeconfig) as client:
                window.until(lambda: _shows_all_succeeded(window, client), "all have ended", 600)
                _filter(window, Pipelines(client, NAMESPACE))
            assert window.errors() == []


def _shows_all_succeeded(page: Browser, api: ApiClient) -> bool:
    """Returns whether the page counts the Pods that have succeeded. The simulated kubelet may leave
    a few Pods running."""
    pods = CoreV1Api(api).list_namespaced_pod(
        NAMESPACE, field_selector="status.phase=Succeeded", _preload_content=False
    )
    succeeded = len(json.loads(pods.data)["items"])
    return (
        succeeded >= 0.99 * FAKE_PIPELINES
        and f"{Reason.POD_SUCCEEDED} ({succeeded})" in page.text("#reason")
    )


def _filter(page: Browser, pipelines: Pipelines) -> None:
    """Filters the list while it changes. Prints how long the browser needs for a filter."""
    page.press("/", "service-0042")
    page.until_text(f"1 of {FAKE_PIPELINES}", "#counts")
    pipelines.create(PIPELINE.manifest("new", Form.LIFE))
    page.until_text(f"1 of {FAKE_PIPELINES + 1}", "#counts")
    pipelines.delete("service-0042", "Background")
    page.until_text(f"0 of {FAKE_PIPELINES}", "#counts")
    assert page.all("#empty")
    page.press(*[Keys.BACKSPACE] * len("service-0042"))
    page.until_text(f"{FAKE_PIPELINES} of {FAKE_PIPELINES}", "#counts")
    milliseconds = page.run("""
        const field = document.getElementById("text"), began = performance.now();
        field.value = "19"; field.dispatchEvent(new Event("input"));
        document.body.offsetHeight;
        return performance.now() - began;
    """)
    print(f"a filter of {FAKE_PIPELINES} pipelines: {milliseconds:.0f} ms")
