"""Faults on purpose: system calls that fail, builders that are killed, many builders at once. `make soak`."""
