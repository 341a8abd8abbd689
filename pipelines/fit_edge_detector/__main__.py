"""`python -m pipelines.fit_edge_detector`: the fit of the edge-case detector."""

import sys

from cutray.console.run import run
from pipelines.fit_edge_detector.cli import fit_edge_detector

sys.exit(run(fit_edge_detector))
