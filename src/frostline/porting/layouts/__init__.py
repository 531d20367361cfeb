"""One file per framework: which tensor of a layer becomes which tensor of a module, through which transform."""
