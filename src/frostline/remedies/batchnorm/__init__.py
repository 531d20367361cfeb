"""BatchNorm as a remedy: inserted before activations, estimated again, folded into the layer before it."""
