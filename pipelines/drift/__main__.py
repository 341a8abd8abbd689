"""`python -m pipelines.drift`: the same as `cutray drift`."""

import sys

from cutray.console.run import run
from pipelines.drift.cli import drift

sys.exit(run(drift))
