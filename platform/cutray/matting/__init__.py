"""From the network's probabilities to an alpha channel and clean colours at full size."""
