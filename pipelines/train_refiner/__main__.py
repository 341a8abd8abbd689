"""`python -m pipelines.train_refiner`: the training of the edge refiner."""

import sys

from cutray.console.run import run
from pipelines.train_refiner.cli import train_refiner

sys.exit(run(train_refiner))
