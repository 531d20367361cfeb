"""One run of a model on one batch, recorded: what depends on a trainable weight, and what the frozen part computed."""
