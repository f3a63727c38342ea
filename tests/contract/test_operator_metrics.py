"""The metrics of an operator's process: what it serves is what happened."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from initpipeline.runtime.metrics import STATE
from tests.builders import running_pod
from tests.cluster.cluster import Cluster
from tests.contract.contract_env import TIMEOUT_SECONDS, ContractEnv
from tests.contract.scraping import Samples, scraped
from tests.operator_process import OperatorProcess
from tests.poll import poll_until
from tests.ports import free_port
from tests.statuses import is_ready

pytest_plugins = ["tests.contract.operator_fixtures"]


@pytest.fixture
def address(
    control_plane: Cluster, user: str, namespace: str, tmp_path: Path
) -> Iterator[tuple[str, OperatorProcess]]:
    """Starts an operator that serves metrics. Returns their address, and the operator."""
    served = f"127.0.0.1:{free_port()}"
    arguments = ["--namespace", namespace, "--metrics-address", served, "--sweep-seconds", "1"]
    kubeconfig = control_plane.kubeconfig_for(user, ["system:masters"])
    with OperatorProcess(kubeconfig, tmp_path / "operator.log", arguments) as operator:
        yield served, operator


def test_metrics_show_what_happened(address: tuple[str, OperatorProcess], env: ContractEnv) -> None:
    served, _ = address
    env.create()
    env.run_pod(running_pod())
    env.wait("Ready", is_ready)

    def found() -> Samples | None:
        samples = scraped(served)
        at_rest = samples["workqueue_depth", ("initpipeline",)] == 0
        swept = ("initpipeline_sweep_last_success_timestamp_seconds", ("pods",)) in samples
        posted = samples.get(("initpipeline_events_total", ("posted",)), 0) >= 2
        return samples if at_rest and swept and posted else None

    samples = poll_until(found, TIMEOUT_SECONDS, "metrics at rest", state=lambda: scraped(served))
    assert samples is not None
    assert samples["initpipeline_runs_started_total", ("Created",)] == 1
    assert samples["initpipeline_run_initialization_seconds_count", ("Created",)] == 1
    assert samples["initpipeline_pod_create_duration_seconds_count", ("201",)] == 1
    assert samples["rest_client_requests_total", ("201", "pods", "POST")] == 1
    assert samples["rest_client_requests_total", ("200", "initpipelines/status", "PATCH")] >= 1
    ready = {labels: n for (name, labels), n in samples.items() if name == "initpipeline_pipelines"}
    assert sum(n for (condition, _, _), n in ready.items() if condition == "Ready") == 1
    assert [n for (c, _, s), n in ready.items() if (c, s) == ("Ready", "True")] == [1]
    assert samples["initpipeline_cache_objects", ("pods",)] == 1
    leaders = [n for (name, _), n in samples.items() if name == "leader_election_master_status"]
    assert leaders == [1]
    sharded = {"initpipeline_shard_assigned", "initpipeline_replicas"}
    assert {name for name, *_ in STATE} - sharded <= {name for name, _ in samples}
    env.delete("Background")

    def empty() -> bool:
        now = scraped(served)
        return all(n == 0 for (name, _), n in now.items() if name == "initpipeline_pipelines")

    poll_until(empty, TIMEOUT_SECONDS, "no pipeline", state=lambda: scraped(served))
