"""A fill of a cache: its plan, the frozen pass, the proof of its rows, and the processes that share the work."""
