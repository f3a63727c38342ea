"""kubetest 0.9.5 beside today's pytest and kubernetes client. Loaded before it, as a pytest plugin.

kubetest names API classes that Kubernetes has renamed or removed since, and calls a function of
pytest whose result has changed. What is mended here is no more than what its import and its
fixtures touch; no test uses a class that is only there to be named.
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
    """Stands for an API that Kubernetes no longer serves."""

    def __init__(self, *_: Any, **__: Any) -> None:
        raise NotImplementedError("Kubernetes no longer serves this API")


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Register kubetest, mended. Its own entry point is blocked by ``-p no:kubetest``, since
    pytest would import it before anything could be mended."""
    for old, new in _RENAMED.items():
        setattr(kubernetes.client, old, getattr(kubernetes.client, new))
    for name in _REMOVED:
        setattr(kubernetes.client, name, _Removed)
    from kubetest import plugin

    plugin.pytest_runtest_teardown = _teardown
    pluginmanager.register(plugin, "kubetest-mended")


def pytest_configure(config: pytest.Config) -> None:
    """A KUBECONFIG that happens to be set is nobody's wish to have tests run there. And kubetest,
    which would add the containers' logs to the report of a test that failed, breaks off the whole
    session where a container has none."""
    config.option.kube_config = None
    config.option.kube_error_log_lines = 0


def _teardown(item: pytest.Item) -> None:
    """Take down what the test set up, if it set up anything: the ``kube`` fixture's namespace."""
    from kubetest.plugin import manager

    if "kube" in getattr(item, "fixturenames", ()):
        manager.teardown(item.nodeid)
