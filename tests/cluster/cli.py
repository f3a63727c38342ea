"""The command line of the test cluster."""

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tests.cluster import build, kwok
from tests.cluster.cluster import DEFAULT_NAME, Cluster
from tests.cluster.errors import ClusterError
from tests.cluster.plan import WITH_PORTS, Component, Mode, valid_name
from tests.cluster.progress import Lines

DESCRIPTION: Final = """\
Run a real Kubernetes on this machine, for tests: etcd, the control plane, and one node that runs
Pods. It needs neither Docker nor an image registry. "down" removes all of it.
"""
EPILOG: Final = """\
getting started:
  python -m tests.cluster up
  export KUBECONFIG=$(python -m tests.cluster kubeconfig)
  kubectl get nodes

start an API server alone, in three seconds and without root:
  python -m tests.cluster up --control-plane-only --name api

inject faults:
  python -m tests.cluster kill-sandbox default/my-pod        restart the whole Pod
  python -m tests.cluster kill-container default/my-pod main restart one container
  python -m tests.cluster stop kubelet                       an outage until "start kubelet"

Every command has the option --name: several clusters can run at the same time.
Exit codes: 0 success, 1 failure, 2 invalid usage.
"""
# Short names are accepted on the command line.
COMPONENTS: Final = {component.removeprefix("kube-"): component for component in Component} | {
    str(component): component for component in Component
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # "... | head -1" is not an error
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], None] = options.command
    try:
        command(options)
    except ClusterError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 1
    return 0


def _up(options: argparse.Namespace) -> None:
    mode = Mode.CONTROL_PLANE if options.control_plane_only else Mode.NODE
    Cluster(options.name, mode, set(options.component), progress=Lines()).up()


def _prepare(options: argparse.Namespace) -> None:
    if options.oldest:
        Cluster(options.name, Mode.OLDEST, progress=Lines()).prepare()
        return
    Cluster(options.name, progress=Lines()).prepare()
    build.built(kwok.KWOK, Lines())


def _down(options: argparse.Namespace) -> None:
    Cluster(options.name, progress=Lines()).down()


def _status(options: argparse.Namespace) -> None:
    cluster = _existing(options)
    components = cluster.present()
    print(f"cluster {cluster.name} ({cluster.mode})")
    for component in components:
        pid = cluster.pid(component)
        print(f"  {component:24} {f'pid {pid}' if pid else 'stopped'}")
    print(f"  {'API server':24} {cluster.server}")
    print(f"  {'kubeconfig':24} {cluster.kubeconfig}")
    print(f"  {'audit log':24} {cluster.audit_log}")
    if not cluster.is_up():
        raise ClusterError(f"cluster {cluster.name} is not up")


def _kubeconfig(options: argparse.Namespace) -> None:
    cluster = _existing(options)
    cluster.present()  # raises ClusterError if there is no such cluster, thus no such file
    print(cluster.kubeconfig)


def _images(options: argparse.Namespace) -> None:
    if bool(options.file) != (options.action == "import"):
        options.parser.error("import needs at least one file, list accepts no file")
    cluster = _existing(options)
    for file in options.file:
        cluster.import_image(file)
    print("\n".join(cluster.images()))


def _kill_sandbox(options: argparse.Namespace) -> None:
    _existing(options).kill_sandbox(*options.pod)


def _kill_container(options: argparse.Namespace) -> None:
    namespace, pod = options.pod
    _existing(options).kill_container(namespace, pod, options.container, options.signal)


def _stop(options: argparse.Namespace) -> None:
    _existing(options).stop(options.component)


def _start(options: argparse.Namespace) -> None:
    _existing(options).start(options.component)


def _logs(options: argparse.Namespace) -> None:
    log = _existing(options).log(options.component)
    if not log.exists():
        raise ClusterError(f"there is no log {log}")
    sys.stdout.flush()
    os.execvp("cat", ["cat", str(log)])


def _existing(options: argparse.Namespace) -> Cluster:
    return Cluster.of(options.name, Lines())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.cluster",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Callable[[argparse.Namespace], None], text: str) -> _Parser:
        added = commands.add_parser(name, help=text, description=text)
        added.add_argument(
            "--name",
            default=DEFAULT_NAME,
            type=cluster_name,
            help="name of the cluster (default: %(default)s)",
        )
        added.set_defaults(command=command, parser=added)
        return added

    _add_up(add("up", _up, "start the cluster or its stopped components (first builds Kubernetes)"))
    prepare = add("prepare", _prepare, "build and install what clusters need, but start nothing")
    oldest = "only what a cluster with the oldest supported API server needs"
    prepare.add_argument("--oldest", action="store_true", help=oldest)
    add("down", _down, "stop the cluster and remove all of it")
    add("status", _status, "show the processes, the address and the files of the cluster")
    add("kubeconfig", _kubeconfig, "print the path of the cluster's kubeconfig")
    _add_images(add("images", _images, "list the node's images, or import image files"))
    sandbox = add("kill-sandbox", _kill_sandbox, "kill a Pod's sandbox: the whole Pod restarts")
    sandbox.add_argument("pod", type=_pod, metavar="NAMESPACE/POD")
    _add_kill_container(add("kill-container", _kill_container, "kill a container's first process"))
    for name, command, text in (
        ("stop", _stop, "stop a component: an outage"),
        ("start", _start, "start a stopped component"),
        ("logs", _logs, "print the log of a component"),
    ):
        component = add(name, command, text)
        names = ", ".join(Component)
        component.add_argument("component", type=_component, metavar="COMPONENT", help=names)
    return parser


_Parser = argparse.ArgumentParser


def _add_up(up: _Parser) -> None:
    up.add_argument(
        "--control-plane-only",
        action="store_true",
        help="start etcd and the API server only: objects are stored, no Pod runs",
    )
    up.add_argument(
        "--component",
        action="append",
        default=[],
        type=_component,
        choices=WITH_PORTS,
        metavar="COMPONENT",
        help="with --control-plane-only: also start controller-manager or scheduler",
    )


def _add_images(images: _Parser) -> None:
    images.add_argument("action", choices=("list", "import"))
    images.add_argument(
        "file", nargs="*", type=Path, help="file to import: a docker-archive or an OCI archive"
    )


def _add_kill_container(kill: _Parser) -> None:
    kill.add_argument("pod", type=_pod, metavar="NAMESPACE/POD")
    kill.add_argument("container", metavar="CONTAINER")
    kill.add_argument(
        "--signal",
        type=int,
        default=signal.SIGKILL.value,
        help="number of the signal (default: %(default)s)",
    )


def _pod(text: str) -> tuple[str, str]:
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAMESPACE/POD")
    return namespace, name


def cluster_name(text: str) -> str:
    """Return the argument of --name. Raise ArgumentTypeError if it is not valid."""
    try:
        return valid_name(text)
    except ClusterError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _component(text: str) -> Component:
    try:
        return COMPONENTS[text]
    except KeyError:
        names = ", ".join(Component)
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {names}") from None
