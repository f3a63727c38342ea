"""``python -m tests.demo``."""

import sys

try:
    # In here, since it takes a while, and Ctrl-C may come as well while it does.
    from tests.demo.cli import main

    code = main()
except KeyboardInterrupt:
    print("stopped by Ctrl-C: what is up stays up")
    code = 130
sys.exit(code)
