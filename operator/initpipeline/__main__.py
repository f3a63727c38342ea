"""``python -m initpipeline``."""

import sys

from initpipeline.cli import main

sys.exit(main())
