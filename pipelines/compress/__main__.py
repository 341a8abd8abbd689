"""`python -m pipelines.compress`: U²-Net with fewer operations."""

import sys

from cutray.console.run import run
from pipelines.compress.cli import compress

sys.exit(run(compress))
