"""Each of manifests/examples works on a real kubelet as its comments describe."""

import re
from pathlib import Path

import pytest

from tests.cluster.cluster import Cluster
from tests.e2e import examples
from tests.e2e.e2e_env import E2EEnv
from tests.kubectl import Kubectl
from tests.statuses import message_of, reason_of


@pytest.mark.usefixtures("operator")
def test_wait_for_dependencies_delays_the_app(env: E2EEnv, kubectl: Kubectl) -> None:
    objects = examples.load("wait-for-dependencies")
    kubectl("apply", "-f", "-", stdin=examples.without_pods(objects))
    waiting = env.wait_reason("shop", "StepRunning")
    assert waiting["status"]["currentStep"] == "wait-for-cache"
    kubectl("apply", "-f", "-", stdin=objects)
    env.wait_ready("shop", run=1)


@pytest.mark.usefixtures("operator")
def test_database_migration_succeeds_and_a_broken_one_stops_the_app(
    env: E2EEnv, kubectl: Kubectl
) -> None:
    objects = examples.load("database-migration")
    kubectl("apply", "-f", "-", stdin=objects)
    env.wait_ready("ledger", run=1)
    assert "cash: 100" in kubectl("logs", "ledger")

    (migrations,) = (one for one in objects if one["kind"] == "ConfigMap")
    migrations["data"]["003-broken.sh"] = "ls no-such-table"
    (policy,) = examples.pipeline_of(objects)["spec"]["initPolicies"]
    policy["maxRestarts"] = 0  # without waiting for the kubelet's back-off
    kubectl("apply", "-f", "-", stdin=objects)
    env.request_run("ledger", "again")

    failed = env.wait_reason("ledger", "RestartLimitExceeded", run=2)
    assert reason_of(failed, "Stalled"), "given up"
    assert "no-such-table" in message_of(failed, "Ready")


@pytest.mark.usefixtures("operator")
def test_volume_permissions_allow_a_user_to_write(env: E2EEnv, kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=examples.load("volume-permissions"))
    env.wait_ready("notes", run=1)
    assert "written by user 1000:" in kubectl("logs", "notes")


@pytest.mark.usefixtures("operator")
def test_git_clone_and_build_creates_the_site(
    env: E2EEnv,
    kubectl: Kubectl,
    node: Cluster,  # noqa: ARG001 - the node has this machine's disk
    tmp_path: Path,
) -> None:
    repository = tmp_path / "site"
    repository.mkdir()
    examples.make_repository(repository)
    objects = examples.load("git-clone-and-build")
    kubectl("apply", "-f", "-", stdin=examples.with_the_machines_git(objects, repository))
    env.wait_ready("site", run=1)
    assert re.fullmatch("cloned .*: First page\n", kubectl("logs", "site", "-c", "clone"))
    assert kubectl("exec", "site", "--", "cat", "/workspace/source/public/index.html") == "hello\n"


@pytest.mark.usefixtures("operator")
def test_secrets_only_for_init_hides_the_secret_from_the_app(env: E2EEnv, kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=examples.load("secrets-only-for-init"))
    env.wait_ready("tickets", run=1)
    log = kubectl("logs", "tickets")
    assert re.search("app=tickets pod=tickets issued=[0-9]+ signature=[0-9a-f]{64}", log)
    files = kubectl("exec", "tickets", "--", "find", "/", "-xdev", "-name", "key")
    assert files == ""


@pytest.mark.usefixtures("operator")
def test_sidecar_proxy_before_fetch_forwards_the_download(env: E2EEnv, kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=examples.load("sidecar-proxy-before-fetch"))
    ready = env.wait_ready("catalog", run=1)
    assert ready["status"]["initProgress"] == "2/2"
    (proxy, _) = ready["status"]["initContainerStatuses"]
    assert "running" in proxy["state"]
    assert "/data/index.html" in kubectl("logs", "catalog", "-c", "fetch")


@pytest.mark.usefixtures("operator")
def test_job_that_ends_succeeds_and_is_deleted(env: E2EEnv, kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=examples.load("job-that-ends"))
    env.wait_reason("report", "PodSucceeded")
    assert kubectl("logs", "report") == "north 20\nsouth 30\n"
    env.set("report", ttlSecondsAfterFinished=1)
    env.pipelines.wait("report", "it is deleted", lambda state: state["event"] == "DELETED")


@pytest.mark.usefixtures("operator")
def test_demo_fails_first_and_becomes_ready(env: E2EEnv, kubectl: Kubectl) -> None:
    kubectl("apply", "-f", "-", stdin=examples.load("demo"))
    failed = env.wait_reason("demo", "StepFailed")
    assert "the schema is locked by a backup" in message_of(failed, "Ready")
    env.wait_ready("demo", run=1)


def test_all_examples_are_tested() -> None:
    assert set(re.findall(r'examples\.load\("(.+?)"\)', Path(__file__).read_text())) == set(
        examples.names()
    )
