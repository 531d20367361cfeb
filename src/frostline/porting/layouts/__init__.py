"""Layout rules, one file per framework: the tensor of the module for each tensor of a layer, and its transform."""
