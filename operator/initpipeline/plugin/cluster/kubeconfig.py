"""Cluster and credentials from a kubeconfig, with the rules of kubectl.

pykube-ng reads a single file, and runs exec plugins of old API versions only. kubectl merges the
files of $KUBECONFIG and supports v1. This module therefore resolves them to a document that
pykube-ng reads: one cluster, and one user with a token or a certificate. The TLS library needs
files, so keys and certificates in the document are written to a private temporary directory.
"""

import base64
import binascii
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import pykube
import yaml

from initpipeline.api.raw import Raw
from initpipeline.plugin.errors import NotUsableError

_EXEC_GROUP: Final = "client.authentication.k8s.io"
_EXEC_VERSIONS: Final = tuple(f"{_EXEC_GROUP}/{v}" for v in ("v1", "v1beta1", "v1alpha1"))
_FILE_FIELDS: Final = ("certificate-authority", "client-certificate", "client-key", "tokenFile")
_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Access:
    """One context of a kubeconfig."""

    context: str
    namespace: str
    cluster: Raw
    user: Raw
    home: Path
    """The directory of the file that defines the user. Relative commands start from there."""

    @property
    def renewable(self) -> bool:
        """Whether the credentials may expire and can be renewed."""
        return "exec" in self.user or "tokenFile" in self.user

    def config(self, keys: Path) -> Any:
        """Returns the configuration for pykube-ng, with fresh credentials. Runs the user's exec
        plugin, if there is one, and writes keys and certificates to the directory ``keys``. Raises
        NotUsableError."""
        user = _with_credentials(self)
        document = {
            "clusters": [{"name": "selected", "cluster": _with_files(self.cluster, keys)}],
            "users": [{"name": "selected", "user": _with_files(user, keys)}],
            "contexts": [
                {"name": "selected", "context": {"cluster": "selected", "user": "selected"}}
            ],
            "current-context": "selected",
        }
        return pykube.KubeConfig(document)


def load(path: str | None = None, context: str | None = None) -> Access:
    """Returns the access that kubectl would have. The first of these applies: the given file, the
    files of $KUBECONFIG, ~/.kube/config, the service account of the Pod. Raises NotUsableError."""
    files = _files(path)
    existing = [file for file in files if file.is_file()]
    if not existing:
        if path is None and context is None and _in_cluster():
            return _service_account()
        paths = ", ".join(map(str, files))
        raise NotUsableError(f"no kubeconfig found: {paths}; set KUBECONFIG or use --kubeconfig")
    return _selected(_merged(existing), context)


def contexts(path: str | None = None) -> list[str]:
    """Returns the names of all contexts. Raises NotUsableError if a file is not a kubeconfig."""
    return sorted(_merged([file for file in _files(path) if file.is_file()])["contexts"])


def _files(path: str | None) -> list[Path]:
    paths = [path] if path else os.environ.get("KUBECONFIG", "").split(os.pathsep)
    files = [Path(one).expanduser() for one in paths if one]
    return files or [Path("~/.kube/config").expanduser()]


def _merged(files: Sequence[Path]) -> Raw:
    """Merges files in the way of kubectl: the first file that sets a value wins."""
    result: Raw = {"current-context": "", "clusters": {}, "users": {}, "contexts": {}}
    for file in files:
        document = _read(file)
        result["current-context"] = result["current-context"] or document.get("current-context")
        for kind, key in (("clusters", "cluster"), ("users", "user"), ("contexts", "context")):
            for entry in document.get(kind) or ():
                value = {**(entry.get(key) or {}), "home": file.absolute().parent}
                result[kind].setdefault(entry["name"], _absolute(value))
    return result


def _read(file: Path) -> Raw:
    try:
        document = yaml.safe_load(file.read_text()) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise NotUsableError(f"the kubeconfig {file} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise NotUsableError(f"the kubeconfig {file} is not valid YAML: {reason}") from error
    lists = (
        [document.get(kind) or [] for kind in ("clusters", "users", "contexts")]
        if isinstance(document, dict)
        else [None]
    )
    if not all(isinstance(entries, list) and all(_named(e) for e in entries) for entries in lists):
        raise NotUsableError(
            f"{file} is not a kubeconfig: it needs lists of named clusters, users and contexts"
        )
    return dict(document)


def _named(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("name"), str)


def _absolute(value: Raw) -> Raw:
    """Makes relative file names absolute. They start from the kubeconfig's directory."""
    paths = {name: str(value["home"] / value[name]) for name in _FILE_FIELDS if value.get(name)}
    return {**value, **paths}


def _selected(config: Raw, context_name: str | None) -> Access:
    """Returns the access of a context, or of the current context. Raises NotUsableError."""
    name = context_name or config["current-context"]
    known = sorted(config["contexts"])
    if not name:
        raise NotUsableError(
            f"the kubeconfig has no current context: choose one with --context ({', '.join(known)})"
        )
    if name not in known:
        similar = get_close_matches(name, known, 3) or known
        hint = f"did you mean {', '.join(similar)}?" if similar else "it has no contexts"
        raise NotUsableError(f'the kubeconfig has no context "{name}": {hint}')
    context = config["contexts"][name]
    cluster = config["clusters"].get(context.get("cluster"))
    user = config["users"].get(context.get("user"), {})
    if cluster is None or not cluster.get("server"):
        raise NotUsableError(
            f'context "{name}" of the kubeconfig refers to cluster "{context.get("cluster")}", '
            "which is not defined or has no server"
        )
    home = user.get("home", Path())
    return Access(
        context=name,
        namespace=context.get("namespace") or "default",
        cluster={key: value for key, value in cluster.items() if key != "home"},
        user={key: value for key, value in user.items() if key != "home"},
        home=home,
    )


def _with_files(values: Mapping[str, Any], keys: Path) -> Raw:
    """Writes each ``x-data`` to a file. Returns the values with the name of the file as ``x``."""
    result = dict(values)
    for name in _FILE_FIELDS:
        data = result.pop(f"{name}-data", None)
        if data:
            result[name] = str(_written(keys / name, data))
    return result


def _written(path: Path, data: str) -> Path:
    try:
        path.write_bytes(base64.b64decode("".join(data.split()), validate=True))
    except binascii.Error as error:
        raise NotUsableError(f"the kubeconfig's {path.name}-data is not base64: {error}") from error
    return path


def _in_cluster() -> bool:
    return (_SERVICE_ACCOUNT / "token").is_file() and "KUBERNETES_SERVICE_HOST" in os.environ


def _service_account() -> Access:
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    host = f"[{host}]" if ":" in host else host
    return Access(
        context="in-cluster",
        namespace=(_SERVICE_ACCOUNT / "namespace").read_text(),
        cluster={
            "server": f"https://{host}:{port}",
            "certificate-authority": str(_SERVICE_ACCOUNT / "ca.crt"),
        },
        user={"tokenFile": str(_SERVICE_ACCOUNT / "token")},
        home=_SERVICE_ACCOUNT,
    )


def _with_credentials(access: Access) -> Raw:
    """Returns the user with a token or a certificate, obtained from a file or an exec plugin."""
    user = dict(access.user)
    file = user.pop("tokenFile", None)
    if file:
        try:
            user["token"] = Path(file).read_text().strip()
        except OSError as error:
            raise NotUsableError(f"the kubeconfig's tokenFile cannot be read: {error}") from error
    plugin = user.pop("exec", None)
    if plugin:
        user |= _credentials(plugin, access)
    return user


def _credentials(plugin: Raw, access: Access) -> Raw:
    """Returns the credentials of an exec plugin (client-go's credential plugins, all versions)."""
    version, command = plugin.get("apiVersion"), str(plugin.get("command") or "")
    if version not in _EXEC_VERSIONS:
        raise NotUsableError(
            f"the kubeconfig's exec plugin has apiVersion {version}: supported are "
            f"{', '.join(_EXEC_VERSIONS)}"
        )
    status = _exec_status(plugin, command, version, access)
    if status.get("token"):
        return {"token": status["token"]}
    certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
    if not certificate or not key:
        raise NotUsableError(
            f'the exec plugin "{command}" returned neither a token nor a client certificate'
        )
    return {
        "client-certificate-data": base64.b64encode(certificate.encode()).decode(),
        "client-key-data": base64.b64encode(key.encode()).decode(),
    }


def _exec_status(plugin: Raw, command: str, version: str, access: Access) -> Raw:
    interactive = plugin.get("interactiveMode", "IfAvailable") != "Never" and sys.stdin.isatty()
    program = str(access.home / command) if "/" in command else command
    try:
        process = subprocess.run(
            [program, *(plugin.get("args") or ())],
            env=_environment(plugin, version, access, interactive),
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=True,
        )
        status = json.loads(process.stdout)["status"]
    except OSError as error:
        hint = " ".join(
            (plugin.get("installHint") or "install it, or correct the kubeconfig").split()
        )
        raise NotUsableError(f'the exec plugin "{command}" cannot be run: {hint}') from error
    except subprocess.CalledProcessError as error:
        raise NotUsableError(
            f'the exec plugin "{command}" of the kubeconfig failed with exit code '
            f"{error.returncode}: log in again, or see its output above"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise NotUsableError(f'the exec plugin "{command}" returned no ExecCredential') from error
    return dict(status)


def _environment(plugin: Raw, version: str, access: Access, interactive: bool) -> dict[str, str]:
    spec: Raw = {"interactive": interactive}
    if plugin.get("provideClusterInfo"):
        fields = {"server", "tls-server-name", "certificate-authority-data", "proxy-url"}
        spec["cluster"] = {key: access.cluster[key] for key in fields & access.cluster.keys()}
    info = {"kind": "ExecCredential", "apiVersion": version, "spec": spec}
    variables = {entry["name"]: entry["value"] for entry in plugin.get("env") or ()}
    return {**os.environ, **variables, "KUBERNETES_EXEC_INFO": json.dumps(info)}
