"""One file per framework: which layers it keeps in one piece or in several, where the module has them otherwise."""
