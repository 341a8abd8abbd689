"""Asynchronous jobs of the endpoint: thousands of photos in one request, done by the batch, told by a webhook."""
