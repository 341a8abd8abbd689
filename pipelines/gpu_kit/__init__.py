"""The job that uses a few minutes on a GPU: packed here, measured and learned there, brought back in parts."""
