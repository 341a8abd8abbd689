"""The parts of the batch job: where photos come from, what is left to do, who does it, and what is written down."""
