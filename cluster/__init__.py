"""Where the platform runs: what is generated here is generated from the configuration of the other folders."""
