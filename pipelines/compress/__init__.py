"""Makes a network with fewer operations out of U²-Net, by least squares and without training."""
