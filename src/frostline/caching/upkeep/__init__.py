"""What an owner does with a stored cache: list what it holds, and delete samples for good."""
