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
A real Kubernetes on this machine, for tests: etcd, the API server, and one node that runs Pods.
It needs no Docker and no image registry, and leaves nothing behind when it is taken down.
"""
EPILOG: Final = """\
begin with:
  python -m tests.cluster up
  export KUBECONFIG=$(python -m tests.cluster kubeconfig)
  kubectl get nodes

only an API server, in three seconds and without root:
  python -m tests.cluster up --control-plane-only --name api

break it:
  python -m tests.cluster kill-sandbox default/my-pod        restart all of a Pod
  python -m tests.cluster kill-container default/my-pod main restart one container
  python -m tests.cluster stop kubelet                       an outage, until "start kubelet"

Every command takes --name, for more than one cluster. Exit codes: 0 done, 1 failed, 2 misused.
"""
# Short names for what one types by hand.
COMPONENTS: Final = {component.removeprefix("kube-"): component for component in Component} | {
    str(component): component for component in Component
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command; the exit code."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # "... | head -1" is no error
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
    cluster.present()  # says so when there is no such cluster, rather than name a file that isn't
    print(cluster.kubeconfig)


def _images(options: argparse.Namespace) -> None:
    if bool(options.file) != (options.action == "import"):
        options.parser.error("import needs files, and list none")
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
            "--name", default=DEFAULT_NAME, type=_name, help="of the cluster: %(default)s"
        )
        added.set_defaults(command=command, parser=added)
        return added

    _add_up(add("up", _up, "bring it up, or what is missing of it; builds it the first time"))
    prepare = add("prepare", _prepare, "build and install what clusters and fake nodes are made of")
    oldest = "only what a cluster with the API server of the oldest Kubernetes is made of"
    prepare.add_argument("--oldest", action="store_true", help=oldest)
    add("down", _down, "take it down and remove all of it")
    add("status", _status, "show its processes, its address and its files")
    add("kubeconfig", _kubeconfig, "print the path of its kubeconfig")
    _add_images(add("images", _images, "list the node's images, or import files"))
    sandbox = add("kill-sandbox", _kill_sandbox, "kill a Pod's first process: all of it restarts")
    sandbox.add_argument("pod", type=_pod, metavar="NAMESPACE/POD")
    _add_kill_container(add("kill-container", _kill_container, "kill a container's first process"))
    for name, command, text in (
        ("stop", _stop, "stop a component: an outage"),
        ("start", _start, "start a component that was stopped"),
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
        help="etcd and the API server alone: what is created is stored, nothing runs",
    )
    up.add_argument(
        "--component",
        action="append",
        default=[],
        type=_component,
        choices=WITH_PORTS,
        metavar="COMPONENT",
        help="with --control-plane-only: also run controller-manager or scheduler; "
        "a node has all of them anyway",
    )


def _add_images(images: _Parser) -> None:
    images.add_argument("action", choices=("list", "import"))
    images.add_argument(
        "file", nargs="*", type=Path, help="to import: a docker-archive or an OCI archive"
    )


def _add_kill_container(kill: _Parser) -> None:
    kill.add_argument("pod", type=_pod, metavar="NAMESPACE/POD")
    kill.add_argument("container", metavar="CONTAINER")
    kill.add_argument(
        "--signal", type=int, default=signal.SIGKILL.value, help="its number: %(default)s"
    )


def _pod(text: str) -> tuple[str, str]:
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAMESPACE/POD")
    return namespace, name


def _name(text: str) -> str:
    try:
        return valid_name(text)
    except ClusterError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _component(text: str) -> Component:
    try:
        return COMPONENTS[text]
    except KeyError:
        names = ", ".join(Component)
        raise argparse.ArgumentTypeError(f"{text!r} is none of {names}") from None
