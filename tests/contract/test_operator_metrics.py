"""The metrics of an operator's process: what it serves is what happened."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from initpipeline.api.names import BUCKET_LABEL
from initpipeline.runtime.state_metrics import STATE
from tests.api_client import manifest
from tests.builders import pipeline, running_pod
from tests.cluster.cluster import Cluster
from tests.contract.contract_env import TIMEOUT_SECONDS, ContractEnv
from tests.contract.replicas import FAILOVER_SECONDS, LEASE, Replicas
from tests.operator_process import OperatorProcess
from tests.poll import poll_until
from tests.ports import free_port
from tests.scraping import Samples, pipelines, restarts, scraped
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
    for resource in ("initpipelines", "pods"):
        assert samples["initpipeline_watches", (resource,)] == 1
        assert samples["initpipeline_cache_unpacked_objects", (resource,)] == 1
        assert samples["initpipeline_objects_not_understood", (resource,)] == 0
        assert restarts(samples, resource) == 0
    env.delete("Background")

    def empty() -> bool:
        now = scraped(served)
        return all(n == 0 for (name, _), n in now.items() if name == "initpipeline_pipelines")

    poll_until(empty, TIMEOUT_SECONDS, "no pipeline", state=lambda: scraped(served))


def test_standby_counts_no_pipelines_until_it_takes_over(
    replicas: Replicas, env: ContractEnv
) -> None:
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    holder = replicas.start("a", "--metrics-address", addresses[0])
    replicas.wait_for("a")
    replicas.start("b", "--metrics-address", addresses[1])
    env.create()
    env.run_pod(running_pod())
    env.wait("Ready", is_ready)

    def cached() -> bool:
        found = [scraped(one)["initpipeline_cache_objects", ("pods",)] for one in addresses]
        return found == [1, 1]

    poll_until(cached, TIMEOUT_SECONDS, "both have the Pod", state=replicas.started[1].tail)
    leads = ("leader_election_master_status", (LEASE,))
    held, standby = map(scraped, addresses)
    assert (held[leads], pipelines(held)) == (1, 1)
    assert (standby[leads], pipelines(standby)) == (0, 0)
    assert standby["initpipeline_watches", ("pods",)] == 1
    assert standby["initpipeline_reconcile_total", ("success",)] == 0
    holder.stop()

    def taken_over() -> bool:
        samples = scraped(addresses[1])
        return (samples[leads], pipelines(samples)) == (1, 1)

    poll_until(taken_over, FAILOVER_SECONDS, "the standby counts", state=replicas.started[1].tail)


def test_sum_over_replicas_with_shards_is_the_number_of_pipelines(
    replicas: Replicas, env: ContractEnv
) -> None:
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    for bucket in range(8):
        body = manifest(f"in-{bucket}", pipeline().raw()["spec"])
        body["metadata"]["labels"] = {BUCKET_LABEL: str(bucket)}
        env.pipelines.create(body)

    def state() -> list[tuple[float, ...]]:
        """Returns for each replica: shards that it is to have, those it has, pipelines, replicas
        that it observes."""
        found: list[tuple[float, ...]] = []
        for samples in map(scraped, addresses[: len(replicas.started)]):
            assigned, held = (
                sum(n for (one, _), n in samples.items() if one == name)
                for name in ("initpipeline_shard_assigned", "leader_election_master_status")
            )
            live = samples["initpipeline_replicas", ()]
            found.append((assigned, held, pipelines(samples), live))
        return found

    def divided(*expected: tuple[float, ...]) -> None:
        poll_until(
            lambda: state() == list(expected), FAILOVER_SECONDS, "shards are divided", state=state
        )

    # One after the other: replicas that start together may never have had all shards.
    replicas.start("a", "--shards=4", "--metrics-address", addresses[0])
    divided((4, 4, 8, 1))
    replicas.start("b", "--shards=4", "--metrics-address", addresses[1])
    divided((2, 2, 4, 2), (2, 2, 4, 2))
    poll_until(
        lambda: restarts(scraped(addresses[0]), "resharded"),
        TIMEOUT_SECONDS,
        "a restarts its watches with fewer shards",
        state=replicas.started[0].tail,
    )
