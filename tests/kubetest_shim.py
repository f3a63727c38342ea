"""A pytest plugin that makes kubetest 0.9.5 work with current pytest and kubernetes client.

kubetest refers to API classes that Kubernetes has since renamed or removed, and calls a pytest
function that now returns another value. This plugin patches what kubetest's import and its
fixtures need. The tests do not use the removed API classes.
"""

from typing import Any

import kubernetes.client
import pytest

_RENAMED = {"V1Event": "CoreV1Event", "V1Subject": "RbacV1Subject"}
_REMOVED = (
    "AppsV1beta1Api",
    "AppsV1beta2Api",
    "ExtensionsV1beta1Api",
    "RbacAuthorizationV1alpha1Api",
    "RbacAuthorizationV1beta1Api",
)


class _Removed:
    """A placeholder for an API that Kubernetes no longer serves."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError("Kubernetes no longer serves this API")


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Patch kubetest, then register it.

    ``-p no:kubetest`` blocks kubetest's own entry point: pytest would import it before the patch.
    """
    for old, new in _RENAMED.items():
        setattr(kubernetes.client, old, getattr(kubernetes.client, new))
    for name in _REMOVED:
        setattr(kubernetes.client, name, _Removed)
    from kubetest import plugin

    plugin.pytest_runtest_teardown = _teardown
    pluginmanager.register(plugin, "kubetest-patched")


def pytest_configure(config: pytest.Config) -> None:
    """Ignore the environment's KUBECONFIG: the tests must not run on that cluster by accident.

    Also switch off kubetest's report of container logs. It aborts the session if a container has
    no log.
    """
    config.option.kube_config = None
    config.option.kube_error_log_lines = 0


def _teardown(item: pytest.Item) -> None:
    """Delete the namespace of the ``kube`` fixture, if the test used that fixture."""
    from kubetest.plugin import manager

    if "kube" in getattr(item, "fixturenames", ()):
        manager.teardown(item.nodeid)
