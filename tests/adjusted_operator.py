"""Runs the operator with other constants of modules, a wall clock that can jump, or more memory.

The environment variable ADJUST has the constants as a JSON object, such as
``{"initpipeline.runtime.client.SILENT_SECONDS": 3}``, so that a test need not wait for long. If a
constant is a timedelta, the value is in seconds.
CLOCK_FILE names a file with the seconds by which the wall clock is ahead. MEMORY_MIB is how much
memory the process occupies in addition.
"""

import importlib
import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

ADJUST = "ADJUST"
CLOCK_FILE = "CLOCK_FILE"
MEMORY_MIB = "MEMORY_MIB"


def main() -> int:
    """Adjust the process, and run the operator with its command line."""
    if CLOCK_FILE in os.environ:
        file, wall = Path(os.environ[CLOCK_FILE]), time.time
        time.time = lambda: wall() + float(file.read_text())
    # Zeros would be pages that the kernel does not allocate.
    occupied = b"x" * (int(os.environ.get(MEMORY_MIB, "0")) * 1024**2)
    # The first module that is imported decides how Kopf and the official client are imported.
    operator = importlib.import_module("initpipeline.runtime.main")
    for path, value in json.loads(os.environ.get(ADJUST, "{}")).items():
        module, _, name = path.rpartition(".")
        target = importlib.import_module(module)
        assert hasattr(target, name), path
        is_duration = isinstance(getattr(target, name), timedelta)
        setattr(target, name, timedelta(seconds=value) if is_duration else value)
    result = int(operator.main(sys.argv[1:]))
    del occupied
    return result


if __name__ == "__main__":
    sys.exit(main())
