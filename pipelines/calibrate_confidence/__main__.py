"""`python -m pipelines.calibrate_confidence`: the fit of the confidence."""

import sys

from cutray.console.run import run
from pipelines.calibrate_confidence.cli import calibrate_confidence

sys.exit(run(calibrate_confidence))
