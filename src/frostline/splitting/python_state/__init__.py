"""What a model computes with beside tensors: its code, and the values that it keeps in Python."""
