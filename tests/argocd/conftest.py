"""One cluster with the operator and Argo CD. Each test has a namespace, a directory in git and an
Application that syncs it."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client

from tests import watching
from tests.api_client import connected
from tests.argocd.applications import Application, applications
from tests.argocd.installation import ArgoCd
from tests.argocd.repository import Repository
from tests.cluster.cluster import Cluster
from tests.cluster.progress import Lines, Progress
from tests.e2e.e2e_env import E2EEnv
from tests.e2e.target import Target, installed
from tests.operator_process import OperatorProcess
from tests.watching import WatchLog


@pytest.fixture(scope="session")
def progress() -> Progress:
    """Progress on the terminal."""
    return Lines()


@pytest.fixture(scope="session")
def cluster(progress: Progress) -> Iterator[Cluster]:
    with Cluster(f"argocd-{os.getpid()}", progress=progress) as cluster:
        installed(Target(cluster.kubeconfig, own=cluster))
        yield cluster


@pytest.fixture(scope="session")
def api(cluster: Cluster) -> Iterator[client.ApiClient]:
    with connected(cluster.kubeconfig) as api:
        yield api


@pytest.fixture(scope="session")
def operator(
    cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OperatorProcess]:
    """Runs the operator for all namespaces."""
    log = tmp_path_factory.mktemp("operator") / "operator.log"
    with OperatorProcess(cluster.kubeconfig, log) as operator:
        yield operator


@pytest.fixture(scope="session")
def argo_cd(
    cluster: Cluster,
    operator: OperatorProcess,  # noqa: ARG001
) -> Iterator[ArgoCd]:
    with ArgoCd(cluster) as argo_cd:
        yield argo_cd


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    repository = Repository(Path(tmp_path_factory.mktemp("git") / "repository"))
    repository.create()
    return repository


@pytest.fixture(scope="session")
def watch_log(api: client.ApiClient, argo_cd: ArgoCd) -> Iterator[WatchLog]:  # noqa: ARG001
    watch_log = applications(api)
    yield watch_log
    watch_log.end()


@pytest.fixture
def env(api: client.ApiClient) -> Iterator[E2EEnv]:
    namespace = f"shop-{uuid.uuid4().hex[:6]}"
    core = client.CoreV1Api(api)
    core.create_namespace({"metadata": {"name": namespace}})
    pipelines, pods = watching.pipelines(api, namespace), watching.pods(api, namespace)
    yield E2EEnv(namespace, api, pipelines, pods)
    pipelines.end()
    pods.end()
    core.delete_namespace(namespace)


@pytest.fixture
def application(
    argo_cd: ArgoCd, repository: Repository, env: E2EEnv, watch_log: WatchLog, progress: Progress
) -> Iterator[Application]:
    """Returns an Application that the test creates, and deletes it afterwards."""
    application = Application(argo_cd, repository, env, watch_log, progress)
    yield application
    application.delete()
