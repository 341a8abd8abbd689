"""Ray Serve applications: what runs in replicas, and the YAML that deploys it."""
