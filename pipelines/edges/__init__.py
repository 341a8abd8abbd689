"""The parts of the edge benchmark: what is shown to the remover, and the page with the results."""
