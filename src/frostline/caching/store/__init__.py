"""The files of one recipe: shards of rows, manifests that list them, proofs, and how they are written and opened."""
