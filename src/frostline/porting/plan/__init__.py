"""The plan of a port, complete before anything is written, and the execution of the plan."""
