"""Where the cluster is and who we are there: kubeconfigs as kubectl reads them.

pykube-ng reads one file and runs exec plugins of old API versions alone; kubectl merges the files
of $KUBECONFIG and knows v1. So the file is resolved here, to one that pykube-ng reads as it is: one
cluster, one user with a token or a certificate. Keys that it holds as data are given to the TLS
library as files, which nobody else may read and which go when we do.
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

from initpipeline.plugin.errors import NotUsableError

Raw = dict[str, Any]

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
    """Directory of the file that names the user: relative commands are meant from there."""

    @property
    def changing(self) -> bool:
        """Whether the credentials may expire, and be had anew by asking for them again."""
        return "exec" in self.user or "tokenFile" in self.user

    def config(self, keys: Path) -> Any:
        """For pykube-ng, with fresh credentials. Runs the user's exec plugin, if there is one, and
        writes keys and certificates into the directory ``keys``. Raises NotUsableError."""
        user = _with_credentials(self)
        document = {
            "clusters": [{"name": "it", "cluster": _with_files(self.cluster, keys)}],
            "users": [{"name": "it", "user": _with_files(user, keys)}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
            "current-context": "it",
        }
        return pykube.KubeConfig(document)


def load(path: str | None = None, context: str | None = None) -> Access:
    """The access that kubectl would have: the file given, else those of $KUBECONFIG, else
    ~/.kube/config, else the service account of the Pod that this runs in. Raises NotUsableError."""
    files = _files(path)
    found = [file for file in files if file.is_file()]
    if not found:
        if path is None and context is None and _in_cluster():
            return _service_account()
        names = ", ".join(map(str, files))
        raise NotUsableError(
            f"no kubeconfig: there is no file {names}; set KUBECONFIG or give --kubeconfig"
        )
    return _chosen(_merged(found), context)


def contexts(path: str | None = None) -> list[str]:
    """The names of all contexts. Raises NotUsableError where a file is not a kubeconfig."""
    return sorted(_merged([file for file in _files(path) if file.is_file()])["contexts"])


def _files(path: str | None) -> list[Path]:
    named = [path] if path else os.environ.get("KUBECONFIG", "").split(os.pathsep)
    given = [Path(name).expanduser() for name in named if name]
    return given or [Path("~/.kube/config").expanduser()]


def _merged(files: Sequence[Path]) -> Raw:
    """As kubectl merges: whichever file says something first has said it."""
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
        where = " ".join(str(error).split())
        raise NotUsableError(f"the kubeconfig {file} is no YAML: {where}") from error
    lists = (
        [document.get(kind) or [] for kind in ("clusters", "users", "contexts")]
        if isinstance(document, dict)
        else [None]
    )
    if not all(isinstance(entries, list) and all(_named(e) for e in entries) for entries in lists):
        raise NotUsableError(f"{file} is no kubeconfig: clusters, users and contexts are missing")
    return dict(document)


def _named(entry: object) -> bool:
    return isinstance(entry, dict) and isinstance(entry.get("name"), str)


def _absolute(value: Raw) -> Raw:
    """Relative file names are meant from the kubeconfig's directory."""
    paths = {name: str(value["home"] / value[name]) for name in _FILE_FIELDS if value.get(name)}
    return {**value, **paths}


def _chosen(config: Raw, wanted: str | None) -> Access:
    name = wanted or config["current-context"]
    known = sorted(config["contexts"])
    if not name:
        raise NotUsableError(
            f"the kubeconfig has no current context: give --context, one of {', '.join(known)}"
        )
    if name not in known:
        near = get_close_matches(name, known, 3) or known
        hint = f"did you mean {', '.join(near)}?" if near else "it has none"
        raise NotUsableError(f'the kubeconfig has no context "{name}": {hint}')
    context = config["contexts"][name]
    cluster = config["clusters"].get(context.get("cluster"))
    user = config["users"].get(context.get("user"), {})
    if cluster is None or not cluster.get("server"):
        raise NotUsableError(
            f'context "{name}" of the kubeconfig is of cluster "{context.get("cluster")}", '
            "and that names no server"
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
    """The same with ``x`` naming a file instead of ``x-data`` holding it."""
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
        raise NotUsableError(f"the kubeconfig's {path.name}-data is no base64: {error}") from error
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
    """The user with a token or a certificate instead of the way to one."""
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
    """What an exec plugin answers: client-go's credential plugins, all versions."""
    version, command = plugin.get("apiVersion"), str(plugin.get("command") or "")
    if version not in _EXEC_VERSIONS:
        raise NotUsableError(
            f"the kubeconfig's exec plugin speaks {version}; known are {', '.join(_EXEC_VERSIONS)}"
        )
    status = _answer(plugin, command, version, access)
    if status.get("token"):
        return {"token": status["token"]}
    certificate, key = status.get("clientCertificateData"), status.get("clientKeyData")
    if not certificate or not key:
        raise NotUsableError(f'the exec plugin "{command}" gave neither token nor certificate')
    return {
        "client-certificate-data": base64.b64encode(certificate.encode()).decode(),
        "client-key-data": base64.b64encode(key.encode()).decode(),
    }


def _answer(plugin: Raw, command: str, version: str, access: Access) -> Raw:
    interactive = plugin.get("interactiveMode", "IfAvailable") != "Never" and sys.stdin.isatty()
    program = str(access.home / command) if "/" in command else command
    try:
        done = subprocess.run(
            [program, *(plugin.get("args") or ())],
            env=_environment(plugin, version, access, interactive),
            stdin=None if interactive else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=True,
        )
        status = json.loads(done.stdout)["status"]
    except OSError as error:
        hint = " ".join((plugin.get("installHint") or "install it, or mend the kubeconfig").split())
        raise NotUsableError(f'the exec plugin "{command}" cannot be run: {hint}') from error
    except subprocess.CalledProcessError as error:
        raise NotUsableError(
            f'the exec plugin "{command}" of the kubeconfig failed with exit code '
            f"{error.returncode}: log in again, or see what it says above"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise NotUsableError(f'the exec plugin "{command}" gave no ExecCredential') from error
    return dict(status)


def _environment(plugin: Raw, version: str, access: Access, interactive: bool) -> dict[str, str]:
    spec: Raw = {"interactive": interactive}
    if plugin.get("provideClusterInfo"):
        known = {"server", "tls-server-name", "certificate-authority-data", "proxy-url"}
        spec["cluster"] = {key: access.cluster[key] for key in known & access.cluster.keys()}
    info = {"kind": "ExecCredential", "apiVersion": version, "spec": spec}
    given = {entry["name"]: entry["value"] for entry in plugin.get("env") or ()}
    return {**os.environ, **given, "KUBERNETES_EXEC_INFO": json.dumps(info)}
