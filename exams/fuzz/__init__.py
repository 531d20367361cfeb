"""Fuzzers: random models against `split` and `fit`, random calls against every public name."""
