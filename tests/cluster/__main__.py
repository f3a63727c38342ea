"""Run the command line."""

import sys

from tests.cluster.cli import main

if __name__ == "__main__":
    sys.exit(main())
