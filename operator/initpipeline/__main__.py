"""``python -m initpipeline``."""

import sys

from initpipeline.cli.main import main

sys.exit(main())
