"""Draws docs/grafana.svg, from a real run: python -m tests.monitoring [MINUTES]."""

import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Final

from tests.cluster.progress import Lines, heartbeat
from tests.monitoring.dashboard import queries
from tests.monitoring.monitored import HEALTHY, MonitoredCluster, started
from tests.monitoring.picture import Line, lines, svg

PICTURE: Final = Path(__file__).parents[2] / "docs" / "grafana.svg"
USAGE: Final = "usage: python -m tests.monitoring [MINUTES]"


def picture(monitored: MonitoredCluster) -> str:
    """Returns the dashboard of the healthy installation, as SVG."""
    found: dict[int, list[Line]] = defaultdict(list)
    for query in queries():
        found[query.panel["id"]] += lines(query, monitored.range(query, HEALTHY))
    return svg(found, monitored.began, time.time())


def main() -> int:
    arguments = sys.argv[1:] or ["6"]
    if len(arguments) > 1 or not arguments[0].isdigit():
        print(USAGE, file=sys.stderr)
        return 2
    progress, minutes = Lines(), int(arguments[0])
    with (
        tempfile.TemporaryDirectory() as folder,
        started(Path(folder), progress) as monitored,
        heartbeat(progress, f"recording for {minutes} minutes"),
    ):
        time.sleep(60 * minutes)
        PICTURE.write_text(picture(monitored))
    return 0


if __name__ == "__main__":
    sys.exit(main())
