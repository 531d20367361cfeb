"""What an owner does with a stored cache: list what it holds, evict recipes, and delete samples for good."""
