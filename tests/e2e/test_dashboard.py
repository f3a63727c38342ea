"""The dashboard in a browser, on a real kubelet and under thousands of pipelines."""

import json
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from kubernetes.client import ApiClient, CoreV1Api
from selenium.webdriver.common.keys import Keys

from initpipeline.api.raw import Raw
from initpipeline.api.reasons import Reason
from tests.api_client import Pipelines, connected
from tests.bench.environment import prepared
from tests.bench.workloads import NAMESPACE, PIPELINE, Form
from tests.browser.browser import SECONDS, Browser, browser
from tests.browser.dashboard import serving
from tests.cluster.audit import requests
from tests.cluster.cluster import Cluster
from tests.cluster.plan import Component
from tests.cluster.progress import silent
from tests.e2e import target
from tests.e2e.e2e_env import E2EEnv
from tests.installation import kubeconfig_of
from tests.kubectl import Kubectl
from tests.operator_process import OperatorProcess
from tests.plugin import Call, cells
from tests.poll import poll_until
from tests.statuses import reason_of, run_number, status_of
from tests.templates import container, sidecar, template

pytestmark = pytest.mark.long

SCREENSHOTS: Final = os.environ.get("INITPIPELINE_SCREENSHOTS", "")
"""The folder of the screenshots. Empty: none are taken."""
BROKEN: Final = container("migrate", "echo applying 0042; echo database is locked >&2; exit 3")
REPAIRED: Final = container("migrate", "echo applying 0042; sleep 1; echo done")
WAIT: Final = container("wait-for-database", "echo waiting for db:5432; sleep 1; echo connected")
SILENT: Final = "echo listening on :8080; exec sleep 3600"
FAKE_PIPELINES: Final = 2000
STATES: Final = {
    "running": (Reason.STEP_RUNNING, 1),
    "retried-by-kubelet": (Reason.STEP_BACK_OFF, 1),
    "no-image": (Reason.IMAGE_PULL_FAILED, 1),
    "retried": (Reason.RERUN_BACK_OFF, 3),
    "given-up": (Reason.STEP_FAILED, 1),
    "suspended": (Reason.SUSPENDED, 1),
    "ready": (Reason.POD_READY, 1),
    "ended": (Reason.POD_SUCCEEDED, 1),
    "terminating": (Reason.POD_TERMINATING, 1),
    "superseded": (Reason.POD_READY, 2),
}
"""Pipelines, with the reason of the condition Ready and the run that they reach."""
DATA: Final = {"timeline": ["-o", "json"]}
"""Options with which a command prints texts that are not cut."""
COLUMNS: Final = (
    "NAME:.metadata.name,INIT:.status.initProgress,STEP:.status.currentStep,RUN:.status.run.number,"
    'REASON:.status.conditions[?(@.type=="Ready")].reason'
)
LINKS: Final = "[...document.querySelectorAll('#part-logs li a')]"
WAITED: Final = re.compile(r"After \S+ it")
"""How long a program has waited for the operator. It differs from program to program."""
TEXT_AT: Final = """
const now = arguments[0];
for (const one of document.querySelectorAll("details")) one.open = true;
for (const one of document.querySelectorAll("[data-mode]"))
  one.textContent = written(Date.parse(one.dateTime || one.dataset.time), one.dataset.mode, now);
const drawn = [...document.querySelectorAll("svg text")].map((one) => one.textContent);
return [document.querySelector("main").innerText, ...drawn].join(" ").replace(/\\s+/g, " ");
"""
"""Returns the text of a page at a time. The scripts of the page write all its times."""


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
        window.start(served.address)
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
            window.start(served.address)
            window.until_text(f"{FAKE_PIPELINES} of {FAKE_PIPELINES}", "#counts", 120)
            with connected(made.cluster.kubeconfig) as client:
                window.until(lambda: _shows_all_succeeded(window, client), "all have ended", 600)
                _filter(window, Pipelines(client, NAMESPACE))
            assert window.errors() == []


@pytest.mark.usefixtures("operator")
def test_terminal_and_page_show_the_same(
    page: Browser, env: E2EEnv, call: Call, cluster: target.Target, tmp_path: Path
) -> None:
    _create_states(env)
    for name in STATES:
        agree(page, call, env, name)
    agree_on_the_list(page, call, Kubectl(cluster.kubeconfig, env.namespace))
    for name in ("given-up", "retried-by-kubelet", "superseded"):
        agree_on_logs(page, call, env, name)
    agree_on_a_dry_run(page, call, env, tmp_path / "changed.yaml")
    assert page.violations() == []


def test_terminal_and_page_show_the_same_while_the_operator_is_down(
    page: Browser, env: E2EEnv, call: Call, operator: OperatorProcess
) -> None:
    env.create_ready("ready", template(WAIT))
    operator.stop()
    env.request_run("ready", "again")
    agree(page, call, env, "ready")
    page.until_text("The operator does not appear to be running", "#part-head .absent")
    page.until_text("When the operator runs:", "#part-next")


@pytest.mark.usefixtures("operator")
def test_terminal_and_page_name_the_permission_for_logs(
    window: Browser, env: E2EEnv, call: Call, cluster: target.Target, tmp_path: Path
) -> None:
    env.create_ready("ready", template(WAIT))
    admin = Kubectl(cluster.kubeconfig, env.namespace)
    admin("create", "serviceaccount", "reader")
    allowed = "pods,events,initpipelines.initpipeline.dev"
    admin("create", "role", "reader", "--verb=get,list,watch", f"--resource={allowed}")
    account = f"{env.namespace}:reader"
    admin("create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={account}")
    kubeconfig = kubeconfig_of(admin, "reader", tmp_path / "kubeconfig")
    refused = call("logs", "ready", "--kubeconfig", str(kubeconfig))
    assert f"see kubectl auth can-i get pods/log -n {env.namespace}" in refused.err
    with serving(kubeconfig, "-n", env.namespace) as served:
        window.open(served.address)
        window.click("#rows a")
        window.until_text('you may not "get" pods/log', "#part-logs")
        window.until_text('you may not "patch" initpipelines', "#part-actions")
        assert not window.all("[data-action]:enabled")
        assert window.violations() == []


def _create_states(env: E2EEnv) -> None:
    """Creates pipelines, and waits until each is in its state."""
    fails = container("migrate", "echo applying 0042; echo locked >&2; exit 3")
    stubborn = "trap '' TERM; while true; do sleep 1; done"
    never = {"restartPolicy": "Never"}
    env.create("running", template(WAIT, container("index", "echo indexing; exec sleep 3600")))
    env.create("retried-by-kubelet", template(WAIT, fails))
    env.create("no-image", template(container("unpack", image="registry.invalid/unpack:2")))
    env.create("retried", template(fails, **never), backoffLimit=9)
    env.create("given-up", template(WAIT, fails, **never))
    env.create("suspended", template(WAIT))
    env.create("ready", template(WAIT, sidecar("proxy")))
    env.create("ended", template(WAIT, app="echo reported", **never))
    env.create("terminating", template(WAIT, app=stubborn, terminationGracePeriodSeconds=3600))
    env.create("superseded", template(WAIT, fails))
    for name in ("suspended", "ready", "terminating"):
        env.wait_ready(name, run=1)
    env.set("suspended", suspend=True)
    env.delete_pod("terminating")
    env.wait_reason("superseded", Reason.STEP_BACK_OFF)
    env.set("superseded", template=template(WAIT, app=SILENT))
    for name, (reason, run) in STATES.items():
        env.pipelines.wait(name, reason, partial(_has_reached, reason, run))


def _has_reached(reason: str, run: int, state: Raw) -> bool:
    return reason_of(state, "Ready") == reason and run_number(state) >= run


def agree(page: Browser, call: Call, env: E2EEnv, name: str) -> None:
    """Checks that the page has each cell of what the terminal shows, at the same second."""
    page.run("location.assign(arguments[0])", f"/{env.namespace}/{name}")
    page.until_text("live", "#connection")
    missing: dict[str, set[str]] = {}

    def agreed() -> bool:
        missing.clear()
        for command in ("explain", "status", "history", "timeline"):
            began = int(time.time())
            shown = terminal_cells(call(command, name, *DATA.get(command, [])).out, name)
            seconds = range(began, int(time.time()) + 1)
            missing[command] = min((shown - _page_at(page, one) for one in seconds), key=len)
        return not any(missing.values())

    # A state that changes between terminal and page is compared again.
    poll_until(agreed, SECONDS, f"terminal and page agree on {name}", state=lambda: missing)


class _Text(str):
    """A text from which the cells that it contains are subtracted."""

    def __rsub__(self, cells: set[str]) -> set[str]:
        return {one for one in cells if one not in self}


def _page_at(page: Browser, second: int) -> _Text:
    """Returns the text of the page at a second of the clock."""
    return _Text(WAITED.sub("After it", page.run(TEXT_AT, second * 1000)))


def terminal_cells(output: str, name: str) -> set[str]:
    """Returns the cells of a table or tree, or the texts of a chart."""
    if output.startswith("{"):
        chart = json.loads(output)
        rows = [row for section in chart["sections"] for row in section["rows"]]
        return {one for row in rows for one in (row["label"], row["words"])} | {*chart["notes"]}
    return {WAITED.sub("After it", one) for one in cells(output)} - {name}


def agree_on_the_list(page: Browser, call: Call, kubectl: Kubectl) -> None:
    """Checks that each row has what ``status`` and ``kubectl get`` show about its pipeline."""
    page.run("location.assign('/')")
    page.until_text(f"{len(STATES)} of {len(STATES)}", "#counts")
    missing: dict[str, Any] = {}

    def agreed() -> bool:
        missing.clear()
        began = int(time.time())
        lines = call("status").out.splitlines()[1:]
        seconds = range(began, int(time.time()) + 1)
        got = kubectl("get", "ipl", "--no-headers", "-o", f"custom-columns={COLUMNS}").splitlines()
        rows = [_rows_at(page, one) for one in seconds]
        shown = [re.split(r"\s{2,}", line.strip()) for line in (*lines, *got)]
        for name, *found in shown:
            wanted = {f"run {one} " if one.isdecimal() else one for one in found}
            wanted -= {"-", "<none>"}
            missing[name] = min((wanted - row[name] for row in rows), key=len)
        order = [line.split()[0] for line in lines]
        missing["order"] = set() if order == [*rows[0]] else {*order}
        return not any(missing.values())

    poll_until(agreed, SECONDS, "the terminal and the list agree", state=lambda: missing)


def _rows_at(page: Browser, second: int) -> dict[str, _Text]:
    """Returns the texts of the rows of the list by name, at a second of the clock."""
    page.run(TEXT_AT, second * 1000)
    script = "return [...document.querySelectorAll('#rows > li')].map((one) => one.textContent)"
    texts = [" ".join(one.split()) for one in page.run(script)]
    return {one.split()[0].partition("/")[2]: _Text(one) for one in texts}


def agree_on_logs(page: Browser, call: Call, env: E2EEnv, name: str) -> None:
    """Checks that the page has the same bytes as the terminal, of each attempt."""
    path = f"/{env.namespace}/{name}"
    page.run("location.assign(arguments[0])", path)
    page.until(lambda: page.all("#part-logs a"), "the page has links to logs")
    for link in page.run(f"return {LINKS}.map((one) => one.pathname + one.search)"):
        address, _, previous = link.partition("?")
        container_name = address.rpartition("/")[2]
        more = ["--previous"] if previous else []
        printed = call("logs", name, container_name, *more).out
        assert printed
        page.run("location.assign(arguments[0])", link)
        page.until(partial(_has_log, page, printed), f"the log of {link}")


def _has_log(page: Browser, printed: str) -> bool:
    return page.text("#log") == printed


def agree_on_a_dry_run(page: Browser, call: Call, env: E2EEnv, file: Path) -> None:
    """Checks that "Try a change" shows what ``plan`` prints about the same manifest."""
    page.run("location.assign(arguments[0])", f"/{env.namespace}/given-up")
    page.until_text("live", "#connection")
    page.click("#edit-details summary")
    page.until(lambda: page.run("return document.getElementById('edit-spec').value"), "the spec")
    changed = page.run("""
        const spec = document.getElementById("edit-spec");
        return spec.value = spec.value.replace("exit 3", "exit 0");
    """)
    page.click("#edit-form button")
    page.until_text("run 2 starts (SpecChanged)", "#edit-result")
    file.write_text(changed)
    planned = call("plan", "-f", str(file))
    assert page.text("#edit-result").split("\n") == planned.out.rstrip("\n").split("\n")


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
