"""Which layer of a file becomes which layer of a module, and what told it."""
