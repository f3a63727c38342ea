"""Runs the operator with other values of module constants, so that a test need not wait for long.

The environment variable ADJUST has them as a JSON object, such as
``{"initpipeline.runtime.client.SILENT_SECONDS": 3}``.
"""

import importlib
import json
import os
import sys

ADJUST = "ADJUST"


def main() -> int:
    """Set the constants, and run the operator with the command line of this process."""
    # The first module that is imported decides how Kopf and the official client are imported.
    operator = importlib.import_module("initpipeline.runtime.main")
    for path, value in json.loads(os.environ.get(ADJUST, "{}")).items():
        module, _, name = path.rpartition(".")
        target = importlib.import_module(module)
        assert hasattr(target, name), path
        setattr(target, name, value)
    return int(operator.main(sys.argv[1:]))


if __name__ == "__main__":
    sys.exit(main())
