"""The flow of values from layer to layer, in the graph of a file and in a run of a module: evidence for the plan."""
