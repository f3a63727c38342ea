"""Reads the metrics of an operator."""

import urllib.request

from prometheus_client.parser import text_string_to_metric_families

Samples = dict[tuple[str, tuple[str, ...]], float]


def scraped(address: str) -> Samples:
    """Returns the samples, by name and by the values of the labels in the order of their names."""
    with urllib.request.urlopen(f"http://{address}/metrics") as response:
        text = response.read().decode()
    return {
        (one.name, tuple(value for _, value in sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def restarts(samples: Samples, resource: str) -> float:
    """Returns how often the watches of this resource had to be opened again."""
    return sum(
        number
        for (name, labels), number in samples.items()
        if name == "initpipeline_watch_restarts_total" and resource in labels
    )


def pipelines(samples: Samples) -> float:
    """Returns the number of pipelines with a condition Ready."""
    return sum(
        number
        for (name, labels), number in samples.items()
        if name == "initpipeline_pipelines" and labels[0] == "Ready"
    )
