"""Debian's package of Prometheus, unpacked into the cache. No service is installed."""

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import yaml

from tests.cluster import debian
from tests.cluster.locks import locked
from tests.cluster.paths import cache_root
from tests.cluster.processes import Daemon
from tests.ports import free_port

START_SECONDS: Final = 60.0
SCRAPE_SECONDS: Final = 2
"""The time between two scrapes, and between two evaluations of the rules."""


def folder() -> Path:
    """Return the folder of prometheus and promtool. Download the package if it is missing."""
    cache_root().mkdir(parents=True, exist_ok=True)
    with locked(cache_root() / ".prometheus.lock"):
        return debian.with_dependencies("prometheus").root / "usr/bin"


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run promtool. Returns its exit code and output."""
    command = [str(folder() / "promtool"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


class QueryError(Exception):
    """Prometheus refuses a query."""


class Prometheus:
    """A server that scrapes targets and evaluates rules."""

    def __init__(self, home: Path, rules: Mapping[str, Any]) -> None:
        """``home`` is for data, configuration and log. ``rules`` has the form of a rule file."""
        self._home = home
        self._rules = rules
        self._port = free_port()
        self._daemon = Daemon("prometheus", home / "pid", home / "log")
        self._targets: dict[str, dict[str, str]] = {}

    def __enter__(self) -> Self:
        (self._home / "rules.yaml").write_text(yaml.safe_dump(self._rules))
        interval = f"{SCRAPE_SECONDS}s"
        scraped = {
            "job_name": "initpipeline",
            "file_sd_configs": [{"files": ["targets.json"], "refresh_interval": "1s"}],
        }
        configuration = {
            "global": {
                "scrape_interval": interval,
                "scrape_timeout": interval,
                "evaluation_interval": interval,
            },
            "rule_files": ["rules.yaml"],
            "scrape_configs": [scraped],
        }
        (self._home / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
        self._write_targets()
        self._daemon.start(
            [
                str(folder() / "prometheus"),
                f"--config.file={self._home / 'prometheus.yaml'}",
                f"--storage.tsdb.path={self._home / 'data'}",
                f"--web.listen-address=127.0.0.1:{self._port}",
            ]
        )
        self._daemon.wait(self._ready, START_SECONDS, "Prometheus is ready")
        return self

    def __exit__(self, *_: object) -> None:
        self._daemon.stop()

    def scrape(self, address: str, namespace: str, pod: str) -> None:
        """Scrape this address from now on, with these labels of the target."""
        self._targets[address] = {"namespace": namespace, "pod": pod}
        self._write_targets()

    def forget(self, address: str) -> None:
        """Scrape this address no longer."""
        del self._targets[address]
        self._write_targets()

    def query(self, expression: str) -> list[Any]:
        """Returns the vector of an expression. Raises QueryError if it is refused."""
        return list(self._get("query", {"query": expression})["result"])

    def range(self, expression: str, start: float, end: float, step: float) -> list[Any]:
        """Returns the matrix of an expression. Raises QueryError if it is refused."""
        times = {"start": str(start), "end": str(end), "step": str(step)}
        return list(self._get("query_range", {"query": expression, **times})["result"])

    def rules(self) -> list[Any]:
        """Returns the rules with their health and their last error."""
        return [rule for group in self._get("rules", {})["groups"] for rule in group["rules"]]

    def firing(self, namespace: str | None) -> set[str]:
        """Returns the alerts of targets with this namespace that fire. None: those without one."""
        matcher = f'namespace="{namespace or ""}"'
        found = self.query(f'ALERTS{{alertstate="firing",{matcher}}}')
        return {one["metric"]["alertname"] for one in found}

    def _ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready"):
                return True
        except OSError:
            return False

    def _get(self, path: str, parameters: Mapping[str, str]) -> Any:
        query = urllib.parse.urlencode(parameters)
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{query}"
        try:
            with urllib.request.urlopen(url) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise QueryError(json.load(error)["error"]) from error

    def _write_targets(self) -> None:
        """Replace the file, which Prometheus watches."""
        targets = [
            {"targets": [address], "labels": labels} for address, labels in self._targets.items()
        ]
        new = self._home / "targets.new"
        new.write_text(json.dumps(targets))
        new.rename(self._home / "targets.json")
