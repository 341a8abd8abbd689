"""The HTTP endpoint: Ingress (limits, formats) → Cutter (full-size pixels) → Segmenter (the network)."""
