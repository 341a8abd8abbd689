"""The platform's jobs. One file is one job: ``python -m pipelines.<job>`` or ``cutray <job>``."""
