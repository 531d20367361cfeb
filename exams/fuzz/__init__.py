"""A generator of models that looks for silent faults of `split` and of a cached `fit`."""
