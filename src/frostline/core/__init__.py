"""Words that every pillar shares: errors, records, layers, inputs, restoring, the one door to the disk."""
