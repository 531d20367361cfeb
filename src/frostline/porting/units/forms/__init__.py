"""Conversion of units, one file per framework: layers that the framework stores jointly or separately."""
