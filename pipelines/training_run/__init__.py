"""The parts of a training run beside training itself: what is said before, during and after it."""
