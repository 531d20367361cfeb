"""What a port will write, in full, before anything is written; and the writing of it."""
