"""The two parts of a model: the frozen part, which stops at the frontier, and the head, which starts there."""
