"""`make demo`: reuse of trained layers, a sick network, and weights of another framework."""
