"""Single measurements of a model: its loss, its wiring, outliers among its inputs."""
