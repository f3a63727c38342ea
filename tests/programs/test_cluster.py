"""The test cluster starts, injects faults, and leaves nothing behind.

These tests start clusters of their own. Other clusters may run meanwhile.
"""

import dataclasses
import os
import platform
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import cli, preflight
from tests.cluster.audit import requests
from tests.cluster.cluster import Cluster
from tests.cluster.errors import ClusterError
from tests.cluster.images import BUSYBOX_IMAGES, busybox_image
from tests.cluster.node import Node
from tests.cluster.plan import Component, Mode
from tests.cluster.processes import Process
from tests.kubectl import Kubectl
from tests.poll import poll_until

pytestmark = pytest.mark.cluster

PATIENCE = 60.0


def pod_of(kubectl: Kubectl, name: str) -> dict[str, Any]:
    """Return the present state of a Pod."""
    state: dict[str, Any] = kubectl.json("get", "pod", name)
    return state


def restarts(kubectl: Kubectl, name: str) -> int:
    """Return how often the app container of a Pod has restarted."""
    count: int = pod_of(kubectl, name)["status"]["containerStatuses"][0]["restartCount"]
    return count


def run(kubectl: Kubectl, manifest: dict[str, Any]) -> dict[str, Any]:
    """Create a Pod, wait until it is Ready, and return it."""
    kubectl("create", "-f", "-", stdin=manifest)
    name = manifest["metadata"]["name"]
    kubectl("wait", "--for=condition=Ready", f"pod/{name}", f"--timeout={PATIENCE:.0f}s")
    return pod_of(kubectl, name)


def pod(name: str, command: str, init: tuple[str, ...] = (), **extra: Any) -> dict[str, Any]:
    """Return a Pod whose containers run shell commands."""

    def container(name: str, script: str) -> dict[str, Any]:
        return {"name": name, "image": "busybox:1.36", "command": ["sh", "-c", script]}

    spec = {
        "terminationGracePeriodSeconds": 0,
        "initContainers": [container(f"step-{i}", script) for i, script in enumerate(init)],
        "containers": [container("main", command) | extra],
    }
    metadata = {"name": name, "labels": {"app": name}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def eventually(condition: Callable[[], bool], what: str) -> None:
    poll_until(condition, PATIENCE, what)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Start a cluster with a node for the tests of this module."""
    missing = preflight.problems(Mode.NODE)
    if missing:
        pytest.skip(missing[0])
    with Cluster(f"test-node-{os.getpid()}") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def kubectl(cluster: Cluster) -> Kubectl:
    return Kubectl(cluster.kubeconfig)


def test_second_up_changes_nothing(cluster: Cluster) -> None:
    before = [cluster.pid(component) for component in Component]
    Cluster(cluster.name).up()
    assert [cluster.pid(component) for component in Component] == before


def test_up_with_other_flags_is_refused(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match="other components or flags"):
        Cluster(cluster.name, flags={Component.KUBELET: ["--v=4"]}).up()


def test_up_starts_stopped_components(cluster: Cluster) -> None:
    cluster.stop(Component.SCHEDULER)
    assert not cluster.is_up()
    cluster.up()
    assert cluster.is_up()


def test_init_containers_run_and_their_logs_can_be_read(kubectl: Kubectl) -> None:
    status = run(kubectl, pod("steps", "sleep 1000", init=("echo one", "echo two")))["status"]
    assert [one["state"]["terminated"]["exitCode"] for one in status["initContainerStatuses"]] == [
        0,
        0,
    ]
    assert kubectl("logs", "steps", "--container=step-1") == "two\n"
    assert kubectl("exec", "steps", "--", "hostname") == "steps\n"


def test_pod_and_this_machine_reach_services(kubectl: Kubectl) -> None:
    run(kubectl, pod("server", "echo hello >/tmp/index.html; exec httpd -f -p 8080 -h /tmp"))
    kubectl("expose", "pod", "server", "--port=80", "--target-port=8080")
    address = kubectl("get", "service", "server", "--output=jsonpath={.spec.clusterIP}")
    get = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {address} 80"
    run(kubectl, pod("client", "sleep 1000"))

    def from_pod() -> str:
        return kubectl("exec", "client", "--", "sh", "-c", f"{get} || true")

    eventually(lambda: "hello" in from_pod(), "a Pod reaches a Service")
    api = "nc -w 2 $KUBERNETES_SERVICE_HOST 443 </dev/null && echo open"
    assert kubectl("exec", "client", "--", "sh", "-c", api) == "open\n"
    own = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 127.0.0.1 8080"
    assert "hello" in kubectl("exec", "server", "--", "sh", "-c", own)


def test_image_with_pull_policy_always_is_pulled(kubectl: Kubectl) -> None:
    """It is the default policy of `image: busybox` without a tag, as in public manifests."""
    run(kubectl, pod("latest", "sleep 1000", image="busybox"))


def test_pull_of_absent_image_fails(kubectl: Kubectl) -> None:
    kubectl("create", "-f", "-", stdin=pod("absent", "true", image="example.test/absent:1"))

    def reasons() -> set[str]:
        statuses = pod_of(kubectl, "absent")["status"].get("containerStatuses", [])
        return {one["state"].get("waiting", {}).get("reason", "") for one in statuses}

    eventually(lambda: bool(reasons() & {"ErrImagePull", "ImagePullBackOff"}), "ErrImagePull")


def test_imported_image_runs(cluster: Cluster, kubectl: Kubectl, tmp_path: Path) -> None:
    image = dataclasses.replace(busybox_image(), names=["example.test/imported:1"])
    file = image.write(tmp_path / "image.tar", platform.machine())
    assert cli.main(["images", "import", str(file), "--name", cluster.name]) == 0
    assert "example.test/imported:1" in cluster.images()
    image_there = {"image": "example.test/imported:1", "imagePullPolicy": "Never"}
    run(kubectl, pod("imported", "sleep 1000", (), **image_there))


def test_images_of_the_node_are_listed(cluster: Cluster) -> None:
    assert set(BUSYBOX_IMAGES) <= set(cluster.images())


def test_killed_container_restarts_alone(cluster: Cluster, kubectl: Kubectl) -> None:
    before = run(kubectl, pod("one-dies", "sleep 1000", init=("true",)))["status"]
    cluster.kill_container("default", "one-dies", "main")

    eventually(lambda: restarts(kubectl, "one-dies") > 0, "the container restarts")
    after = pod_of(kubectl, "one-dies")["status"]
    assert after["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 137
    assert after["initContainerStatuses"] == before["initContainerStatuses"]
    assert after["podIP"] == before["podIP"]


def test_killed_sandbox_restarts_the_whole_pod(cluster: Cluster, kubectl: Kubectl) -> None:
    before = run(kubectl, pod("all-die", "sleep 1000", init=("true", "true")))["status"]
    cluster.kill_sandbox("default", "all-die")

    def restarted() -> bool:
        return all(
            one["restartCount"] == 1
            for one in pod_of(kubectl, "all-die")["status"]["initContainerStatuses"]
        )

    eventually(restarted, "the init containers run again")
    kubectl("wait", "--for=condition=Ready", "pod/all-die", f"--timeout={PATIENCE:.0f}s")
    assert pod_of(kubectl, "all-die")["status"]["podIP"] != before["podIP"]


def test_kill_waits_until_the_deleted_pod_of_the_same_name_has_ended(
    cluster: Cluster, kubectl: Kubectl
) -> None:
    run(kubectl, pod("again", "sleep 1000"))
    kubectl("delete", "pod", "again", "--wait=false")
    run(kubectl, pod("again", "sleep 1000"))
    cluster.kill_container("default", "again", "main")

    eventually(lambda: restarts(kubectl, "again") > 0, "the container of the second Pod restarts")


def test_restart_rule_restarts_all_containers(kubectl: Kubectl) -> None:
    """The feature gate RestartAllContainersOnContainerExits is on by default in this version."""
    rule = {"action": "RestartAllContainers", "exitCodes": {"operator": "In", "values": [42]}}
    manifest = pod("all-restart", "sleep 1000", init=("date",))
    trigger = {"restartPolicy": "Never", "restartPolicyRules": [rule]}
    volume = {"name": "data", "mountPath": "/data"}
    # Exits with 42 the first time only. The volume survives the restart of all containers.
    script = "if [ -e /data/done ]; then sleep 1000; else touch /data/done; exit 42; fi"
    manifest["spec"]["containers"][0] |= trigger | {
        "command": ["sh", "-c", script],
        "volumeMounts": [volume],
    }
    manifest["spec"]["volumes"] = [{"name": "data", "emptyDir": {}}]
    kubectl("create", "-f", "-", stdin=manifest)

    def restarted() -> bool:
        statuses = pod_of(kubectl, "all-restart")["status"].get("initContainerStatuses", [])
        return [one["restartCount"] for one in statuses] == [1]

    eventually(restarted, "the init container runs again")


def test_killing_an_absent_pod_is_refused(cluster: Cluster) -> None:
    with pytest.raises(ClusterError, match=r"Pod default/absent-pod does not run"):
        cluster.kill_sandbox("default", "absent-pod")


@pytest.mark.parametrize("component", Component)
def test_pods_survive_the_outage_of_a_component(
    component: Component, cluster: Cluster, kubectl: Kubectl
) -> None:
    name = f"survives-{component}"
    started = run(kubectl, pod(name, "sleep 1000"))["status"]["containerStatuses"]
    cluster.stop(component)
    assert cluster.pid(component) is None
    cluster.start(component)
    assert cluster.is_up()
    assert pod_of(kubectl, name)["status"]["containerStatuses"] == started


def test_audit_log_names_the_user(cluster: Cluster) -> None:
    since = cluster.audit_log.stat().st_size
    kubeconfig = cluster.kubeconfig_for("alice", ["system:masters"])
    get = [str(cluster.kubectl), f"--kubeconfig={kubeconfig}", "get", "configmaps"]
    subprocess.run(get, check=True, capture_output=True)
    sent = [one for one in requests(cluster.audit_log, since) if one.user == "alice"]
    assert [(one.verb, one.code) for one in sent if one.resource == "configmaps"] == [("list", 200)]


def machine(interface: str) -> dict[str, set[str]]:
    """Return everything that a cluster with this interface could leave behind on this machine."""

    def lines(*command: str) -> set[str]:
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        stripped = (line.strip() for line in answer.stdout.splitlines())
        return {line for line in stripped if "ipl-" not in line or interface in line}

    folders = ("/run", "/var/lib", "/var/log", "/opt", "/etc", "/usr/libexec")
    return {
        "addresses": lines("ip", "-oneline", "address"),
        "routes": lines("ip", "route", "show", "table", "all"),
        "named namespaces": lines("ip", "netns", "list"),
        "mounts": lines("cat", "/proc/self/mountinfo"),
        "iptables": {line for line in lines("iptables-save") if not line.startswith("#")},
        "settings": lines("sysctl", "vm.overcommit_memory", "kernel.panic", "net.ipv4.ip_forward"),
        "folders": {str(path) for folder in folders for path in Path(folder).glob("*")},
    }


def namespaces_of(process: Path) -> set[str]:
    return {str((process / "ns" / kind).readlink()) for kind in ("mnt", "net")}


def processes_of(cluster: Cluster, namespaces: set[str]) -> set[str]:
    """Return the processes in a cluster's namespaces, and those with its directory in argv."""
    processes = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace").replace("\0", " ")
            inside = namespaces_of(process)
        except OSError:  # it has ended, or is a kernel thread
            continue
        if inside & namespaces or str(cluster.layout.root) in command:
            processes.add(f"{process.name} {command}")
    return processes


@pytest.mark.alone
def test_down_leaves_nothing_behind() -> None:
    missing = preflight.problems(Mode.NODE)
    if missing:
        pytest.skip(missing[0])
    cluster = Cluster(f"test-down-{os.getpid()}")
    node = Node(cluster.name, cluster.layout)
    before = machine(node.interface)
    with cluster:
        kubectl = Kubectl(cluster.kubeconfig)
        run(kubectl, pod("running", "trap '' TERM; sleep 1000", init=("true",)))
        kubectl("expose", "pod", "running", "--port=80")
        holder = node.holder.running()
        assert holder is not None
        namespaces = namespaces_of(Path(f"/proc/{holder.pid}"))
        assert len(processes_of(cluster, namespaces)) > len(Component)
        assert machine(node.interface) != before
    assert machine(node.interface) == before
    assert processes_of(cluster, namespaces) == set()
    assert not node.exists()
    assert not cluster.layout.root.exists()


def test_down_after_a_crash_ends_all_processes() -> None:
    """The record and the pid files are lost, but the control groups still list the processes."""
    missing = preflight.problems(Mode.NODE)
    if missing:
        pytest.skip(missing[0])
    cluster = Cluster(f"test-crash-{os.getpid()}")
    cluster.up()
    pids = [cluster.pid(component) for component in Component]
    assert all(pid and Process.of(pid) for pid in pids)
    cluster.layout.record.unlink()
    for component in Component:
        cluster.layout.pid_file(component).unlink()
    cluster.down()
    assert not any(pid and Process.of(pid) for pid in pids)
    assert not Node(cluster.name, cluster.layout).exists()
    cluster.down()  # a second time succeeds, too


def test_control_planes_run_beside_each_other() -> None:
    manager = {Component.CONTROLLER_MANAGER}
    limits = {Component.CONTROLLER_MANAGER: ["--kube-api-qps=1000", "--kube-api-burst=2000"]}
    first = Cluster(f"test-api-1-{os.getpid()}", Mode.CONTROL_PLANE)
    second = Cluster(
        f"test-api-2-{os.getpid()}", Mode.CONTROL_PLANE, components=manager, flags=limits
    )
    with first, second:
        assert first.server != second.server
        Kubectl(first.kubeconfig)("create", "-f", "-", stdin=pod("stored", "true"))
        assert pod_of(Kubectl(first.kubeconfig), "stored")["status"]["phase"] == "Pending"
        assert Kubectl(second.kubeconfig)("get", "pods", "--output=name") == ""
    assert not first.layout.root.exists()
    assert not second.layout.root.exists()


def test_cluster_that_fails_to_start_leaves_nothing_behind() -> None:
    manager = Component.CONTROLLER_MANAGER
    flags = {manager: ["--no-such-flag"]}
    cluster = Cluster(
        f"test-fails-{os.getpid()}", Mode.CONTROL_PLANE, components={manager}, flags=flags
    )
    with pytest.raises(ClusterError, match="controller-manager"), cluster:
        pass
    assert processes_of(cluster, set()) == set()
    assert not cluster.layout.root.exists()


def test_kubelet_of_a_control_plane_is_refused() -> None:
    with pytest.raises(ClusterError, match="no kubelet"):
        Cluster("never", Mode.CONTROL_PLANE, components={Component.KUBELET})
