"""The assignment of layers of a file to layers of a module, and the evidence for it; a part of the plan."""
