"""Rivals, re-implemented from their papers and defaults: none is the original code."""
