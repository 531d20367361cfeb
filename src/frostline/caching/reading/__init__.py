"""From stored rows to batches: the cached dataset, its loader, and exports as plain files."""
