"""``python -m initpipeline``."""

import sys

from initpipeline.runtime.main import main

sys.exit(main())
