"""Parts of the job that trains the edge refiner."""
