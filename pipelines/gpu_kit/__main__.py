"""`python -m pipelines.gpu_kit`: what is packed, run and joined for a few minutes on a GPU."""

import sys

from cutray.console.run import run
from pipelines.gpu_kit.cli import gpu_kit

sys.exit(run(gpu_kit))
