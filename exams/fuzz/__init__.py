"""Fuzzers: random models against `split` and `fit`, random public calls, damaged files against every reader."""
