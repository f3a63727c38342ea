"""The scrape configuration of docs/install.md selects the operator, and sets its labels."""

import json
import re
from pathlib import Path
from typing import Any, Final

import yaml

from tests.monitoring.prometheus import promtool

GUIDE: Final = Path(__file__).parents[2] / "docs" / "install.md"
BLOCK: Final = re.compile(r"```yaml\n(scrape_configs:\n.*?)```", re.DOTALL)
NAME: Final = "__meta_kubernetes_pod_label_app_kubernetes_io_name"


def discovered(address: str, port: str, name: str) -> dict[str, Any]:
    """Returns a port of a Pod, as the discovery of Prometheus reports it."""
    labels = {
        NAME: name,
        "__meta_kubernetes_pod_container_port_name": port,
        "__meta_kubernetes_namespace": "initpipeline-system",
        "__meta_kubernetes_pod_name": "initpipeline-a",
    }
    return {"targets": [address], "labels": labels}


def test_configuration_scrapes_the_metrics_of_the_operator_with_the_labels_of_the_rules(
    tmp_path: Path,
) -> None:
    """Debian's Prometheus has no discovery of Kubernetes, so the test states what it would find."""
    [block] = BLOCK.findall(GUIDE.read_text())
    document = yaml.safe_load(block)
    [scraped] = document["scrape_configs"]
    assert [found["role"] for found in scraped.pop("kubernetes_sd_configs")] == ["pod"]
    scraped["static_configs"] = [
        discovered("10.0.0.1:9090", "metrics", "initpipeline"),
        discovered("10.0.0.1:8080", "probes", "initpipeline"),
        discovered("10.0.0.2:9090", "metrics", "another"),
    ]
    file = tmp_path / "prometheus.yaml"
    file.write_text(yaml.safe_dump(document))
    answer = promtool("check", "service-discovery", "--timeout=1s", str(file), scraped["job_name"])
    assert answer.returncode == 0, answer.stderr
    targets = [one["labels"] for one in json.loads(answer.stdout) if one["labels"]]
    assert [(one["__address__"], one["namespace"], one["pod"], one["job"]) for one in targets] == [
        ("10.0.0.1:9090", "initpipeline-system", "initpipeline-a", "initpipeline")
    ]
