"""Kubeconfigs are read with the rules of kubectl."""

import base64
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from initpipeline.api.raw import Raw
from initpipeline.plugin.cluster import kubeconfig
from initpipeline.plugin.errors import NotUsableError


def document(user: Raw | None = None, cluster: Raw | None = None, **context: str) -> Raw:
    return {
        "clusters": [{"name": "c", "cluster": {"server": "https://one:6443", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {"token": "secret"}}],
        "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u", **context}}],
        "current-context": "here",
    }


def written(directory: Path, content: Any, name: str = "config") -> Path:
    path = directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """Returns the directory for keys."""
    directory = tmp_path / "keys"
    directory.mkdir()
    return directory


class TestFiles:
    def test_given_file_is_read(self, tmp_path: Path) -> None:
        access = kubeconfig.load(str(written(tmp_path, document(namespace="team-a"))))
        assert (access.context, access.namespace) == ("here", "team-a")

    def test_file_in_the_home_directory_is_the_default(self, tmp_path: Path) -> None:
        written(tmp_path, document(), "home/.kube/config")
        assert kubeconfig.load().namespace == "default"

    def test_several_files_are_merged_and_the_first_value_wins(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = {"contexts": document()["contexts"], "current-context": "here"}
        second = {**document(user={"token": "two"}, namespace="ignored"), "current-context": "x"}
        files = [
            written(tmp_path, first, "a"),
            tmp_path / "missing",
            written(tmp_path, second, "b"),
        ]
        monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, files)))
        access = kubeconfig.load()
        assert (access.context, access.namespace) == ("here", "default")
        assert access.user == {"token": "two"}

    def test_context_option_selects_the_context(self, tmp_path: Path) -> None:
        content = document()
        content["contexts"].append({"name": "there", "context": {"cluster": "c", "user": "u"}})
        path = str(written(tmp_path, content))
        assert kubeconfig.load(path, "there").context == "there"
        assert kubeconfig.contexts(path) == ["here", "there"]


@pytest.mark.parametrize(
    ("content", "context", "message"),
    [
        pytest.param(None, None, "no kubeconfig found: ", id="no file"),
        pytest.param("a: [", None, "is not valid YAML", id="broken"),
        pytest.param("hello", None, "is not a kubeconfig", id="text"),
        pytest.param({"contexts": "x"}, None, "is not a kubeconfig", id="another kind of file"),
        pytest.param(
            {**document(), "current-context": ""},
            None,
            r"--context \(here\)",
            id="no current context",
        ),
        pytest.param(document(), "hre", "did you mean here?", id="typing error"),
        pytest.param(
            {**document(), "clusters": []}, None, "not defined or has no server", id="no cluster"
        ),
    ],
)
def test_invalid_configuration_is_an_error_of_one_line(
    tmp_path: Path, content: Any, context: str | None, message: str
) -> None:
    path = tmp_path / "config" if content is None else written(tmp_path, content)
    with pytest.raises(NotUsableError, match=message.replace("?", r"\?")) as caught:
        kubeconfig.load(str(path), context)
    assert "\n" not in str(caught.value)


class TestKeys:
    def test_data_is_written_to_the_private_directory(self, tmp_path: Path, keys: Path) -> None:
        data = base64.b64encode(b"the key").decode()
        user = {"client-certificate-data": data, "client-key-data": data}
        access = kubeconfig.load(str(written(tmp_path, document(user))))
        key = Path(access.config(keys).user["client-key"].filename())
        assert key.read_bytes() == b"the key"
        assert key.parent == keys

    def test_relative_file_name_starts_from_the_kubeconfig(
        self, tmp_path: Path, keys: Path
    ) -> None:
        written(tmp_path, "ca", "sub/ca.crt")
        path = written(
            tmp_path, document(cluster={"certificate-authority": "ca.crt"}), "sub/config"
        )
        authority = kubeconfig.load(str(path)).config(keys).cluster["certificate-authority"]
        assert Path(authority.filename()) == tmp_path / "sub" / "ca.crt"

    def test_data_that_is_not_base64_is_an_error(self, tmp_path: Path, keys: Path) -> None:
        path = written(tmp_path, document({"client-key-data": "!"}))
        with pytest.raises(NotUsableError, match="client-key-data is not base64"):
            kubeconfig.load(str(path)).config(keys)

    def test_token_file_is_read(self, tmp_path: Path, keys: Path) -> None:
        written(tmp_path, "from the file\n", "token")
        path = written(tmp_path, document({"tokenFile": "token"}))
        assert kubeconfig.load(str(path)).config(keys).user == {"token": "from the file"}


class TestExecPlugin:
    """client-go's credential plugins."""

    ANSWER = "import json, os; print(json.dumps({'status': {'token': os.environ['GIVEN']}}))"
    INFO = (
        "import json, os; info = os.environ['KUBERNETES_EXEC_INFO'];"
        "print(json.dumps({'status': {'token': info}}))"
    )

    def user(self, tmp_path: Path, script: str, **fields: Any) -> Raw:
        plugin = {
            "apiVersion": "client.authentication.k8s.io/v1",
            "command": sys.executable,
            "args": ["-c", script],
            "env": [{"name": "GIVEN", "value": "from the kubeconfig"}],
            "interactiveMode": "Never",
            **fields,
        }
        path = written(tmp_path, document({"exec": plugin}))
        keys = tmp_path / "keys"
        keys.mkdir(exist_ok=True)
        user: Raw = kubeconfig.load(str(path)).config(keys).user
        return user

    @pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha1"])
    def test_token_is_used(self, tmp_path: Path, version: str) -> None:
        version = f"client.authentication.k8s.io/{version}"
        user = self.user(tmp_path, self.ANSWER, apiVersion=version)
        assert user == {"token": "from the kubeconfig"}

    def test_cluster_info_is_passed_if_requested(self, tmp_path: Path) -> None:
        exec_info = json.loads(self.user(tmp_path, self.INFO, provideClusterInfo=True)["token"])
        assert exec_info == {
            "kind": "ExecCredential",
            "apiVersion": "client.authentication.k8s.io/v1",
            "spec": {"interactive": False, "cluster": {"server": "https://one:6443"}},
        }

    def test_certificate_is_written_to_a_file(self, tmp_path: Path) -> None:
        script = (
            "import json; print(json.dumps({'status': "
            "{'clientCertificateData': 'PEM', 'clientKeyData': 'KEY'}}))"
        )
        user = self.user(tmp_path, script)
        assert Path(user["client-key"].filename()).read_text() == "KEY"

    @pytest.mark.parametrize(
        ("script", "fields", "message"),
        [
            pytest.param("raise SystemExit(7)", {}, "failed with exit code 7", id="fails"),
            pytest.param("print('hello')", {}, "returned no ExecCredential", id="other output"),
            pytest.param(
                "print('{\"status\": {}}')",
                {},
                "neither a token nor a client certificate",
                id="no credentials",
            ),
            pytest.param(
                "",
                {"command": "no-such-plugin", "installHint": "see\n  example.com"},
                'the exec plugin "no-such-plugin" cannot be run: see example.com',
                id="not installed",
            ),
            pytest.param(
                "",
                {"apiVersion": "x/v9"},
                "has apiVersion x/v9: supported",
                id="unsupported version",
            ),
        ],
    )
    def test_invalid_configuration_is_an_error_of_one_line(
        self, tmp_path: Path, script: str, fields: Raw, message: str
    ) -> None:
        with pytest.raises(NotUsableError, match=message):
            self.user(tmp_path, script, **fields)

    def test_relative_command_starts_from_the_kubeconfig(self, tmp_path: Path) -> None:
        program = written(tmp_path, f"#!{sys.executable}\n{self.ANSWER}\n", "bin/login")
        program.chmod(0o700)
        assert self.user(tmp_path, "", command="bin/login")["token"] == "from the kubeconfig"
