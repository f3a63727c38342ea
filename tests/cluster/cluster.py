"""Start and stop a cluster and its components."""

import contextlib
import platform
import shutil
import signal
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from tests.cluster import build, debian, faults, images, preflight
from tests.cluster.api import Api
from tests.cluster.errors import ClusterError
from tests.cluster.locks import locked
from tests.cluster.node import Node
from tests.cluster.parts import Parts
from tests.cluster.paths import STATE_ROOT, Layout
from tests.cluster.plan import (
    NODE_ONLY,
    STORAGE_AND_API,
    Component,
    Mode,
    Plan,
    create,
    recorded,
    valid_name,
)
from tests.cluster.processes import Daemon
from tests.cluster.progress import Progress, silent

DEFAULT_NAME: Final = "initpipeline"
START_SECONDS: Final = 120.0
# After SIGTERM the API server waits for its open requests, including watches. An outage must not.
OUTAGE_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Cluster:
    """A cluster of this machine, identified by its name. It need not be running.

    With `Mode.NODE` it has all components. With `Mode.CONTROL_PLANE` it has etcd, the API server,
    and optionally the controller manager and the scheduler, as given by `components`. With
    `Mode.OLDEST` it has an older API server.
    `flags` are appended to a component's command line and override the cluster's own.
    """

    name: str = DEFAULT_NAME
    mode: Mode = Mode.NODE
    components: Collection[Component] = ()
    flags: Mapping[Component, Sequence[str]] = field(default_factory=dict)
    progress: Progress = silent

    def __post_init__(self) -> None:
        """Raise ClusterError if the combination of fields is invalid."""
        valid_name(self.name)
        if self.mode is not Mode.NODE and NODE_ONLY & set(self.components):
            raise ClusterError(f"a control plane has no {', no '.join(sorted(NODE_ONLY))}")

    @classmethod
    def of(cls, name: str, progress: Progress = silent) -> Self:
        """Return the cluster of that name, as it was started. Use the defaults if it is not up."""
        plan = recorded(Layout.of(valid_name(name)))
        if plan is None:
            return cls(name, progress=progress)
        return cls(name, plan.mode, plan.components, plan.flags, progress)

    def __enter__(self) -> Self:
        """Start it. If that fails, stop and remove what has started."""
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop and remove it."""
        self.down()

    @property
    def layout(self) -> Layout:
        """Its files."""
        return Layout.of(self.name)

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig."""
        return self.layout.kubeconfig

    @property
    def audit_log(self) -> Path:
        """The API server's audit log: one JSON object per line, level Metadata."""
        return self.layout.audit_log

    @property
    def kubectl(self) -> Path:
        """A kubectl of the cluster's version. It needs --kubeconfig or KUBECONFIG."""
        return build.KUBERNETES.cached() / "kubectl"

    @property
    def api(self) -> Api:
        """A client of the API server, with administrator permissions."""
        return self._parts().control_plane.api

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self._plan().server

    @property
    def etcd(self) -> str:
        """The URL of etcd. It requires no credentials."""
        return self._parts().control_plane.etcd

    def log(self, component: Component) -> Path:
        """Return the path of a component's log."""
        return self.layout.log(component)

    def pid(self, component: Component) -> int | None:
        """Return the pid of a component. None while it is stopped."""
        process = self._daemon(component).running()
        return process.pid if process else None

    def kubeconfig_for(self, user: str, groups: Sequence[str] = ()) -> Path:
        """Return a kubeconfig that authenticates a client as that user in those groups."""
        control_plane = self._parts().control_plane
        return control_plane.write_kubeconfig(user.replace(":", "-"), user, tuple(groups))

    def is_up(self) -> bool:
        """Return whether every component runs and the API server is ready."""
        plan = recorded(self.layout)
        if plan is None or not all(map(self.pid, plan.components)):
            return False
        return self._node_exists(plan) and self.api.ready()

    def up(self) -> None:
        """Start it, or those of its components that are stopped. Return when it can be used."""
        if self.is_up():
            self._check_unchanged()
            self.progress(f"cluster {self.name} is already up: {self.server}")
            return
        self.prepare()
        with locked(self.layout.lock):
            self._start_all()  # starts nothing if another process did so while this one waited
        self.progress(f"cluster {self.name} is up: {self.server}")

    def prepare(self) -> None:
        """Build and install what it needs, unless that was done before. Start nothing."""
        preflight.check(self.mode)
        build.built(build.KUBERNETES, self.progress)
        if self.mode is Mode.OLDEST:
            build.built(build.OLDEST, self.progress)
        if self.mode is Mode.NODE:
            build.built(build.PAUSE, self.progress)
            debian.ensure(self.progress)

    def down(self) -> None:
        """Stop and remove it. Do nothing if it does not exist."""
        with locked(self.layout.lock):
            self._remove()
        with contextlib.suppress(OSError):  # not empty: there are other clusters
            STATE_ROOT.rmdir()

    def start(self, component: Component) -> None:
        """Start a component. Return when it reports that it is ready."""
        self._check_present(component)
        daemon, parts = self._daemon(component), self._parts()
        if not daemon.running():
            self.progress(f"starting {component}")
            daemon.start(parts.command(component))
        daemon.wait(lambda: parts.ready(component), START_SECONDS, "it is ready")

    def stop(self, component: Component) -> None:
        """Stop a component. Return when its process has ended."""
        self._check_present(component)
        self._stop(component, OUTAGE_SECONDS)

    def import_image(self, file: Path) -> None:
        """Import into the node the images of a file from `docker save` or `buildah push`."""
        self._parts().import_image(file)

    def tag_image(self, name: str, other: str) -> None:
        """Give the node's image `name` another name as well."""
        self._parts().containerd.tag_image(name, other)

    def images(self) -> list[str]:
        """Return the names of the node's images."""
        return sorted(image.name for image in self._parts().containerd.images())

    def kill_sandbox(self, namespace: str, pod: str) -> None:
        """Kill a Pod's sandbox. The Pod loses its network, and the kubelet restarts all of it."""
        faults.kill_sandbox(self._parts().containerd, namespace, pod)

    def kill_container(
        self, namespace: str, pod: str, container: str, number: int = signal.SIGKILL
    ) -> None:
        """Send a signal to the first process of a Pod's container."""
        faults.kill_container(self._parts().containerd, namespace, pod, container, number)

    def reboot_node(self) -> None:
        """Simulate a power failure and the reboot of the node.

        All processes of Pods end at once. The API server is not notified. The kubelet finds the
        Pods dead when it starts again.
        """
        self.power_off_node()
        self.power_on_node()

    def power_off_node(self) -> None:
        """Simulate a power failure of the node. The kubelet, containerd and all Pods end at once,
        and the API server is not notified."""
        for component in (Component.KUBELET, Component.CONTAINERD):
            self.stop(component)
        self._parts().node.lose_power()

    def power_on_node(self) -> None:
        """Start the node again after `power_off_node`."""
        for component in (Component.CONTAINERD, Component.KUBELET):
            self.start(component)

    def volume(self, pod_uid: str, name: str) -> Path:
        """Return the folder, outside the node, of an emptyDir on its disk."""
        pods = self.layout.node / "lib/kubelet/pods"
        return pods / pod_uid / "volumes/kubernetes.io~empty-dir" / name

    def present(self) -> list[Component]:
        """Return its components in the order in which they are started."""
        return [component for component in Component if component in self._plan().components]

    def _start_all(self) -> None:
        if self._is_remnant():
            self._remove()
            create(self.layout, self.mode, self._all_components(), self._all_flags())
        self._check_unchanged()
        self._parts().prepare()
        for component in self.present():
            self.start(component)
            if component is Component.CONTAINERD:
                self._import_own_images()
        self._wait_until_usable()

    def _remove(self) -> None:
        node = Node(self.name, self.layout)
        if not self.layout.root.exists() and not node.exists():
            return
        for file in self.layout.pid_files():
            # Without grace: the data is deleted anyway.
            Daemon(file.name, file, self.layout.log(file.name)).stop(grace=0)
        node.remove()
        if self.layout.root.exists():
            shutil.rmtree(self.layout.root)
        self.progress(f"cluster {self.name} is down")

    def _stop(self, component: Component, grace: float) -> None:
        daemon = self._daemon(component)
        if daemon.running():
            self.progress(f"stopping {component}")
        daemon.stop(grace)

    def _check_present(self, component: Component) -> None:
        if component not in self._plan().components:
            raise ClusterError(f"cluster {self.name} has no {component}")

    def _import_own_images(self) -> None:
        for image in (images.pause_image(), images.busybox_image()):
            with tempfile.NamedTemporaryFile(dir=self.layout.root, suffix=".tar") as file:
                self.import_image(image.write(Path(file.name), platform.machine()))

    def _all_components(self) -> frozenset[Component]:
        if self.mode is Mode.NODE:
            return frozenset(Component)
        return STORAGE_AND_API | frozenset(self.components)

    def _all_flags(self) -> Mapping[Component, tuple[str, ...]]:
        return {component: tuple(flags) for component, flags in self.flags.items()}

    def _check_unchanged(self) -> None:
        plan, wanted = self._plan(), (self.mode, self._all_components(), self._all_flags())
        if (plan.mode, plan.components, plan.flags) != wanted:
            raise ClusterError(
                f"cluster {self.name} is up as {plan.mode} with other components or flags: "
                "take it down first, or choose another name"
            )

    def _is_remnant(self) -> bool:
        """Return whether it has to be removed first: no component runs, or the node is gone."""
        plan = recorded(self.layout)
        if plan is None:
            return True
        return not self._node_exists(plan) or not any(map(self.pid, plan.components))

    def _node_exists(self, plan: Plan) -> bool:
        """Return whether the node's namespaces exist. True if the plan has no node."""
        return plan.network is None or self._parts().node.holder.running() is not None

    def _plan(self) -> Plan:
        plan = recorded(self.layout)
        if plan is None:
            raise ClusterError(
                f"there is no cluster {self.name}: start it with "
                f"python -m tests.cluster up --name {self.name}"
            )
        return plan

    def _parts(self) -> Parts:
        return Parts(self._plan(), self.layout)

    def _daemon(self, component: Component) -> Daemon:
        return Daemon(component, self.layout.pid_file(component), self.layout.log(component))

    def _wait_until_usable(self) -> None:
        parts = self._parts()
        if Component.CONTROLLER_MANAGER in parts.plan.components:
            self.progress("waiting for the default ServiceAccount")
            manager = self._daemon(Component.CONTROLLER_MANAGER)
            made = parts.control_plane.default_service_account
            manager.wait(made, START_SECONDS, "the default ServiceAccount exists")
        if parts.has_node:
            self.progress("waiting for the node to be Ready")
            kubelet = self._daemon(Component.KUBELET)
            kubelet.wait(parts.agents.node_ready, START_SECONDS, "the node is Ready")
