"""The parts of the detector's fit: the examples and the solver."""
