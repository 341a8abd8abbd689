"""`python -m pipelines.bench`: the benchmarks."""

import sys

from cutray.console.run import run
from pipelines.bench.cli import bench

sys.exit(run(bench))
