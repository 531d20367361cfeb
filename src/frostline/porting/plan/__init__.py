"""The plan of a port, complete before anything is written, and its execution."""
