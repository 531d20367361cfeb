"""What a dataset gives: its items, seeded views of them, samples of any length, and signs that it is random."""
