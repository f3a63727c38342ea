"""Record on a test cluster what the kubelet reports of a Pod in these scenarios."""

import argparse

from tests.traces.record import record
from tests.traces.scenarios import SCENARIOS

parser = argparse.ArgumentParser(prog="python -m tests.traces", description=__doc__)
parser.add_argument("what", choices=["record"])
scenarios = ", ".join(SCENARIOS)
parser.add_argument("scenario", nargs="*", help=f"scenarios to record (default: all): {scenarios}")
arguments = parser.parse_args()
record(arguments.scenario)
