"""A cluster: bring it up, take it down, stop and start its parts."""

import contextlib
import platform
import shutil
import signal
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
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
    recorded,
    settled,
    valid_name,
)
from tests.cluster.processes import Daemon
from tests.cluster.progress import Progress, silent

DEFAULT_NAME: Final = "initpipeline"
START_SECONDS: Final = 120.0
# An API server that is asked to end waits for its open requests, of which watches last: an outage
# that is to begin now does not.
OUTAGE_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Cluster:
    """One cluster of this machine, by its name: up, or not yet, or no longer.

    With `Mode.NODE` it has all components. With `Mode.CONTROL_PLANE` it has etcd and the API
    server, and those of the controller manager and the scheduler that `components` names; with
    `Mode.OLDEST` it has an older API server.
    `flags` are added to a component's command line, where they win over the cluster's own.
    """

    name: str = DEFAULT_NAME
    mode: Mode = Mode.NODE
    components: Collection[Component] = ()
    flags: Mapping[Component, Sequence[str]] = field(default_factory=dict)
    progress: Progress = silent

    def __post_init__(self) -> None:
        """Refuse what can't be brought up before anything is done."""
        valid_name(self.name)
        if self.mode is not Mode.NODE and NODE_ONLY & set(self.components):
            raise ClusterError(f"a control plane has no {', no '.join(sorted(NODE_ONLY))}")

    @classmethod
    def of(cls, name: str, progress: Progress = silent) -> Self:
        """The cluster of that name, as it was set up; one that isn't up has the defaults."""
        plan = recorded(Layout.of(valid_name(name)))
        if plan is None:
            return cls(name, progress=progress)
        return cls(name, plan.mode, plan.components, plan.flags, progress)

    def __enter__(self) -> Self:
        """Bring it up."""
        self.up()
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        """Take it down."""
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
        """What the API server was asked: one JSON object a line, level Metadata."""
        return self.layout.audit_log

    @property
    def kubectl(self) -> Path:
        """A kubectl of the cluster's version; it needs --kubeconfig or KUBECONFIG."""
        return build.KUBERNETES.cached() / "kubectl"

    @property
    def api(self) -> Api:
        """Requests to the API server, as its administrator."""
        return self._parts().control_plane.api

    @property
    def server(self) -> str:
        """The API server's URL."""
        return self._plan().server

    def log(self, component: Component) -> Path:
        """The log of a component."""
        return self.layout.log(component)

    def pid(self, component: Component) -> int | None:
        """The process of a component, to measure it; None while it is stopped."""
        process = self._daemon(component).running()
        return process.pid if process else None

    def kubeconfig_for(self, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig by which a client is that user: for RBAC, and to tell users apart."""
        control_plane = self._parts().control_plane
        return control_plane.write_kubeconfig(user.replace(":", "-"), user, tuple(groups))

    def is_up(self) -> bool:
        """Whether every component runs and the API server answers."""
        plan = recorded(self.layout)
        if plan is None or not all(map(self.pid, plan.components)):
            return False
        return self._node_stands(plan) and self.api.ready()

    def up(self) -> None:
        """Bring it up, or bring up what is missing of it; return when it can be used."""
        if self.is_up():
            self._check_as_wanted()
            self.progress(f"cluster {self.name} is up already: {self.server}")
            return
        self.prepare()
        with locked(self.layout.lock):
            self._bring_up()  # which starts nothing if another process did while this one waited
        self.progress(f"cluster {self.name} is up: {self.server}")

    def prepare(self) -> None:
        """Build and install what it is made of, where that is missing; start nothing."""
        preflight.check(self.mode)
        build.built(build.KUBERNETES, self.progress)
        if self.mode is Mode.OLDEST:
            build.built(build.OLDEST, self.progress)
        if self.mode is Mode.NODE:
            build.built(build.PAUSE, self.progress)
            debian.ensure(self.progress)

    def down(self) -> None:
        """Take it down and leave nothing behind; nothing happens where there is none."""
        with locked(self.layout.lock):
            self._take_down()
        with contextlib.suppress(OSError):  # it is not empty: there are other clusters
            STATE_ROOT.rmdir()

    def start(self, component: Component) -> None:
        """Start a component; return when it says that it is ready."""
        self._check_present(component)
        daemon, parts = self._daemon(component), self._parts()
        if not daemon.running():
            self.progress(f"starting {component}")
            daemon.start(parts.command(component))
        daemon.wait(lambda: parts.ready(component), START_SECONDS, "not ready")

    def stop(self, component: Component) -> None:
        """Stop a component, as an outage would; return when its process has ended."""
        self._check_present(component)
        self._stop(component, OUTAGE_SECONDS)

    def import_image(self, file: Path) -> None:
        """Give the node the images in a file, as `docker save` or `buildah push` write it."""
        self._parts().import_image(file)

    def images(self) -> list[str]:
        """The names of the images that the node has."""
        return sorted(image.name for image in self._parts().containerd.images())

    def kill_sandbox(self, namespace: str, pod: str) -> None:
        """Kill a Pod's first process: the Pod loses its network and starts over, all of it."""
        faults.kill_sandbox(self._parts().containerd, namespace, pod)

    def kill_container(
        self, namespace: str, pod: str, container: str, number: int = signal.SIGKILL
    ) -> None:
        """Send a signal to the first process of a Pod's container."""
        faults.kill_container(self._parts().containerd, namespace, pod, container, number)

    def reboot_node(self) -> None:
        """Cut the node's power, and give it back: every Pod's processes end at once, nobody tells
        the API server, and the kubelet finds out when it is back."""
        for component in (Component.KUBELET, Component.CONTAINERD):
            self.stop(component)
        self._parts().node.lose_power()
        for component in (Component.CONTAINERD, Component.KUBELET):
            self.start(component)

    def present(self) -> list[Component]:
        """Its components, in the order to start them."""
        return [component for component in Component if component in self._plan().components]

    def _bring_up(self) -> None:
        if self._beyond_mending():
            self._take_down()
            settled(self.layout, self.mode, self._all_components(), self._all_flags())
        self._check_as_wanted()
        self._parts().prepare()
        for component in self.present():
            self.start(component)
            if component is Component.CONTAINERD:
                self._import_own_images()
        self._wait_until_usable()

    def _take_down(self) -> None:
        node = Node(self.name, self.layout)
        if not self.layout.root.exists() and not node.there():
            return
        for file in self.layout.pid_files():
            # At once: what it would save is thrown away.
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

    def _check_as_wanted(self) -> None:
        plan, wanted = self._plan(), (self.mode, self._all_components(), self._all_flags())
        if (plan.mode, plan.components, plan.flags) != wanted:
            raise ClusterError(
                f"cluster {self.name} is up as {plan.mode} with other components or flags: "
                "take it down first, or give this one another name"
            )

    def _beyond_mending(self) -> bool:
        """Whether only remains are there: nothing runs, or the node's namespaces are gone."""
        plan = recorded(self.layout)
        if plan is None:
            return True
        return not self._node_stands(plan) or not any(map(self.pid, plan.components))

    def _node_stands(self, plan: Plan) -> bool:
        """Whether the node's namespaces can be entered, where there is to be a node."""
        return plan.network is None or self._parts().node.holder.running() is not None

    def _plan(self) -> Plan:
        plan = recorded(self.layout)
        if plan is None:
            raise ClusterError(
                f"there is no cluster {self.name}: python -m tests.cluster up --name {self.name}"
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
            manager.wait(made, START_SECONDS, "no default ServiceAccount")
        if parts.has_node:
            self.progress("waiting for the node to be Ready")
            kubelet = self._daemon(Component.KUBELET)
            kubelet.wait(parts.agents.node_ready, START_SECONDS, "the node is not Ready")
