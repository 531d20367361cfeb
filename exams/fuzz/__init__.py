"""Fuzzers: random models against `split` and `fit`, random calls against every public name, damaged files
against every reader of weights."""
