"""The operator starts while its API server cannot answer, or refuses it."""

import contextlib
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
import yaml

from initpipeline.api import names
from tests.cluster.cluster import Cluster
from tests.contract.contract_env import ContractEnv
from tests.faultproxy import Answer, Fault, FaultProxy, Reset, Unanswered
from tests.operator_process import OperatorProcess
from tests.poll import poll_until
from tests.ports import free_port

pytest_plugins = ["tests.contract.operator_fixtures"]

WAITING: Final = "waiting for the API server"
START_SECONDS: Final = 60
REVIEW: Final = "/selfsubjectaccessreviews"


class Starting:
    """An operator behind a proxy that was not started yet."""

    def __init__(self, proxy: FaultProxy, kubeconfig: Path, folder: Path, namespace: str) -> None:
        self.proxy, self.kubeconfig = proxy, kubeconfig
        self._probes = f"127.0.0.1:{free_port()}"
        arguments = ("--namespace", namespace, "--sweep-seconds", "99999")
        times = ("--probe-address", self._probes, "--request-timeout-seconds", "2")
        self.process = OperatorProcess(kubeconfig, folder / "log", [*arguments, *times])

    def probe(self, path: str) -> tuple[int, str]:
        """Returns code and text of the answer to a probe. 0: nothing answers."""
        try:
            with urlopen(f"http://{self._probes}{path}", timeout=10) as response:
                return response.status, response.read().decode()
        except HTTPError as error:
            return error.code, error.read().decode()
        except URLError:
            return 0, ""

    @contextlib.contextmanager
    def connection(self) -> Iterator[HTTPConnection]:
        """Returns a connection that the operator has accepted, and that is not opened again."""
        connection = HTTPConnection(self._probes, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            connection.auto_open = 0
            yield connection

    def wait_until_ready(self) -> None:
        poll_until(
            lambda: self.probe("/readyz") == (200, "ok"),
            START_SECONDS,
            "the operator is ready",
            state=self.process.tail,
        )


@pytest.fixture
def starting(
    control_plane: Cluster, user: str, namespace: str, tmp_path: Path
) -> Iterator[Starting]:
    with FaultProxy(tmp_path) as proxy:
        kubeconfig = proxy.kubeconfig(control_plane.kubeconfig_for(user, ["system:masters"]))
        starting = Starting(proxy, kubeconfig, tmp_path, namespace)
        yield starting
        if starting.process.running:
            starting.process.kill()


def test_operator_waits_for_an_api_server_that_cannot_be_reached(
    starting: Starting, env: ContractEnv
) -> None:
    """It is alive and not ready meanwhile, and serves when the API server is back."""
    starting.proxy.stop()
    starting.process.start(WAITING)
    assert starting.probe("/healthz") == (200, "ok")
    code, text = starting.probe("/readyz")
    assert (code, text.startswith("no answer from the API server at")) == (503, True)
    with starting.connection() as connection:
        starting.proxy.start()
        starting.wait_until_ready()
        connection.request("GET", "/healthz")
        assert connection.getresponse().status == 200, "the listener was never closed"
    env.create()
    env.wait_for_pod(run=1)


@pytest.mark.parametrize(
    ("fault", "path"),
    [
        pytest.param(Answer(503), f"/apis/{names.API_VERSION}", id="503"),
        pytest.param(Answer(500), REVIEW, id="500 to a review"),
        pytest.param(Answer(429), REVIEW, id="429 to a review"),
        pytest.param(Reset(), REVIEW, id="reset"),
        pytest.param(Unanswered(), REVIEW, id="no answer"),
    ],
)
def test_operator_repeats_the_checks_that_the_api_server_did_not_answer(
    starting: Starting, fault: Fault, path: str
) -> None:
    with starting.proxy.inject(fault, path=path, times=2) as rule:
        starting.process.start()
        assert rule.hits == 2
    waits = [one for one in starting.process.lines() if one["message"] == WAITING]
    assert len(waits) == 2
    starting.wait_until_ready()


def test_operator_waits_while_the_api_server_starts_and_refuses_everything(
    starting: Starting,
) -> None:
    """An API server answers 403 until it has read all roles. It is not ready then."""
    with (
        starting.proxy.inject(Answer(500), path="^/readyz"),
        starting.proxy.inject(Answer(403), path=REVIEW, times=2) as rule,
    ):
        starting.process.start()
        assert rule.hits == 2
    starting.wait_until_ready()


def test_signal_ends_an_operator_that_waits(starting: Starting) -> None:
    starting.proxy.stop()
    starting.process.start(WAITING)
    assert starting.process.stop() == 0


@pytest.mark.parametrize(
    ("fault", "path", "remedy"),
    [
        pytest.param(
            Answer(404, reason="NotFound"),
            f"/apis/{names.API_VERSION}",
            "install it with 'kubectl apply -f crds/'",
            id="no CRD",
        ),
        pytest.param(
            Answer(401), names.API_VERSION, "renew the credentials", id="refused credentials"
        ),
        pytest.param(
            Answer(403), REVIEW, "bind a role with that permission", id="missing permission"
        ),
    ],
)
def test_error_that_waiting_does_not_cure_ends_the_operator(
    starting: Starting, fault: Fault, path: str, remedy: str
) -> None:
    with (
        starting.proxy.inject(fault, path=path),
        pytest.raises(AssertionError, match="ended with 1"),
    ):
        starting.process.start()
    [line] = starting.process.log.read_text().splitlines()
    assert line.startswith("error: ")
    assert remedy in line


def test_untrusted_certificate_ends_the_operator(
    starting: Starting, control_plane: Cluster
) -> None:
    """The kubeconfig has the address of the proxy, and the authority of the API server."""
    content = yaml.safe_load(starting.kubeconfig.read_text())
    real = yaml.safe_load(control_plane.kubeconfig.read_text())
    key = "certificate-authority-data"
    content["clusters"][0]["cluster"][key] = real["clusters"][0]["cluster"][key]
    starting.kubeconfig.write_text(yaml.safe_dump(content))
    with pytest.raises(AssertionError, match="ended with 1"):
        starting.process.start()
    [line] = starting.process.log.read_text().splitlines()
    assert "is not trusted" in line
