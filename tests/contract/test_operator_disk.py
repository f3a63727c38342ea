"""The operator while the disk of its node is full: its only file is its log."""

import os
import subprocess
import sys
from pathlib import Path

from tests.cluster.cluster import Cluster
from tests.contract.contract_env import ContractEnv
from tests.poll import poll_until

pytest_plugins = ["tests.contract.operator_fixtures"]

START_SECONDS = 60
STOP_SECONDS = 15


def test_operator_serves_while_its_log_cannot_be_written(
    control_plane: Cluster, env: ContractEnv, user: str
) -> None:
    kubeconfig = control_plane.kubeconfig_for(user, ["system:masters"])
    command = [sys.executable, "-m", "initpipeline", "run", "--namespace", env.namespace]
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig)}
    with Path("/dev/full").open("wb") as full:
        process = subprocess.Popen(command, env=environment, stderr=full)
    try:
        env.create()
        poll_until(env.pod, START_SECONDS, "the Pod")
        process.terminate()
        assert process.wait(STOP_SECONDS) == 0
    finally:
        process.kill()
        process.wait()
