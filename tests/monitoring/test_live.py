"""A real Prometheus scrapes real operators, while their faults are real. ``make alerts``.

Each fault has an installation of its own, and all last at the same time. An alert must fire while
its fault lasts, and clear after it. Its expression is that of the rule file. Only ``for`` is
shorter: a second in place of a minute. Otherwise the test would last for hours.
"""

import math
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.build import GoProgram, built
from tests.cluster.processes import Daemon
from tests.cluster.progress import Lines
from tests.monitoring.dashboard import Query, queries
from tests.monitoring.faults import FAULTS, expected, run_numbers
from tests.monitoring.monitored import HEALTHY, SHARDED, MonitoredCluster, started
from tests.monitoring.test_alerts import ALERTS
from tests.monitoring.test_kube_state_metrics import FILE, METRICS, RESOURCE
from tests.poll import poll_until
from tests.ports import free_port

pytestmark = [pytest.mark.cluster, pytest.mark.long]

FIRE_SECONDS = 600.0
"""ReconcileStuck needs five minutes, and the machine may be busy."""
CLEAR_SECONDS = 1200.0
"""EventsDropped clears a quarter of an hour after the last dropped Event."""
AT_A_TIME = 3

KUBE_STATE_METRICS = GoProgram(
    "kube-state-metrics",
    package="k8s.io/kube-state-metrics/v2",
    module=Path(__file__).with_name("kube_state_metrics"),
    duration="3 minutes on two cores, once per machine",
)


@pytest.fixture(scope="module")
def monitored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitoredCluster]:
    """Starts everything. No fault has begun."""
    with started(tmp_path_factory.mktemp("alerts"), Lines(), list(FAULTS)) as monitored:
        yield monitored


@pytest.fixture(scope="module")
def faulty(monitored: MonitoredCluster, request: pytest.FixtureRequest) -> MonitoredCluster:
    """Begins the faults that the selected tests need."""
    selected = {
        name
        for item in request.session.items
        if isinstance(item, pytest.Function) and hasattr(item, "callspec")
        for name in [item.callspec.params.get("name")]
        if name in FAULTS
    }
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        list(pool.map(monitored.begin, [name for name in FAULTS if name in selected]))
    return monitored


@pytest.fixture(scope="module")
def recovered(faulty: MonitoredCluster) -> MonitoredCluster:
    """Ends all faults."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        list(pool.map(faulty.end, list(faulty.faults)))
    return faulty


@pytest.mark.parametrize(("name", "alert"), expected())
def test_alert_fires_during_its_fault(faulty: MonitoredCluster, name: str, alert: str) -> None:
    poll_until(
        lambda: faulty.firing(name, alert),
        FIRE_SECONDS,
        f"{alert} fires",
        state=lambda: (faulty.prometheus.firing(name), faulty.installations[name].tail()),
    )
    faulty.progress(f"{name}: {alert} fires")


@pytest.mark.parametrize("query", list(queries()), ids=lambda q: f"{q.title}: {q.legend}")
def test_query_of_the_dashboard_has_data(monitored: MonitoredCluster, query: Query) -> None:
    def numbers() -> list[float]:
        return [float(value) for one in monitored.range(query) for _, value in one["values"]]

    poll_until(
        lambda: [number for number in numbers() if not math.isnan(number)],
        FIRE_SECONDS,
        f"{query.title} has data",
        state=lambda: query.expression,
    )


def test_prometheus_evaluates_all_rules(monitored: MonitoredCluster) -> None:
    rules = monitored.prometheus.rules()
    assert {rule["name"] for rule in rules} == set(ALERTS)
    assert {(rule["health"], rule.get("lastError", "")) for rule in rules} == {("ok", "")}


@pytest.mark.parametrize("namespace", [HEALTHY, SHARDED])
def test_healthy_installation_has_no_alert_of_the_operator(
    monitored: MonitoredCluster, namespace: str
) -> None:
    """Alerts about the InitPipelines of users are right: some of them fail."""
    passed = f"{time.time() - monitored.healthy_since:.0f}s"
    labels = f'namespace="{namespace}",alertstate="firing",severity!="info"'
    assert monitored.prometheus.query(f"max_over_time(ALERTS{{{labels}}}[{passed}])") == []


def test_kube_state_metrics_serves_each_pipeline(
    monitored: MonitoredCluster, tmp_path: Path
) -> None:
    program = built(KUBE_STATE_METRICS, Lines()) / KUBE_STATE_METRICS.name
    port = free_port()
    daemon = Daemon("kube-state-metrics", tmp_path / "pid", tmp_path / "log")
    options = {
        "kubeconfig": monitored.cluster.kubeconfig,
        "custom-resource-state-config-file": FILE,
        "custom-resource-state-only": "true",
        "host": "127.0.0.1",
        "port": port,
        "telemetry-host": "127.0.0.1",
        "telemetry-port": free_port(),
    }
    daemon.start([str(program), *(f"--{name}={value}" for name, value in options.items())])
    try:
        daemon.wait(lambda: _serves_each_pipeline(monitored, port), FIRE_SECONDS, "series of each")
    finally:
        daemon.stop()


def _serves_each_pipeline(monitored: MonitoredCluster, port: int) -> bool:
    """Returns whether kube-state-metrics has all metrics, and the present number of each run."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
            text = response.read().decode()
    except OSError:
        return False
    samples = [
        sample for family in text_string_to_metric_families(text) for sample in family.samples
    ]
    numbers = {
        sample.labels["initpipeline"]: sample.value
        for sample in samples
        if sample.name.endswith("_status_run_number") and sample.labels["namespace"] == HEALTHY
    }
    prefix = RESOURCE["metricNamePrefix"]
    return {sample.name for sample in samples} == {
        f"{prefix}_{name}" for name in METRICS
    } and numbers == run_numbers(monitored.installations[HEALTHY])


@pytest.mark.parametrize(("name", "alert"), expected())
def test_alert_clears_after_its_fault(recovered: MonitoredCluster, name: str, alert: str) -> None:
    poll_until(
        lambda: not recovered.firing(name, alert),
        CLEAR_SECONDS,
        f"{alert} clears",
        state=lambda: (recovered.prometheus.firing(name), recovered.installations[name].tail()),
    )
    recovered.progress(f"{name}: {alert} has cleared")


def test_alert_fires_if_no_replica_runs_and_clears_when_one_does(
    recovered: MonitoredCluster,
) -> None:
    """This is the last test, because it ends all replicas."""
    alert = "InitPipelineNotRunning"
    assert alert not in recovered.prometheus.firing(None)
    for installation in recovered.installations.values():
        installation.end()
    poll_until(lambda: alert in recovered.prometheus.firing(None), FIRE_SECONDS, "it fires")
    recovered.installations[HEALTHY].replicas["a"].start()
    poll_until(lambda: alert not in recovered.prometheus.firing(None), FIRE_SECONDS, "it clears")
