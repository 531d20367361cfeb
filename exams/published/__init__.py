"""Training bugs that other people published, as small programs with their fixed twins."""
