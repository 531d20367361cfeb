"""Single questions about a model that a measurement answers: its loss, its wiring, outliers among its inputs."""
