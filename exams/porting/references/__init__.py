"""What the frameworks of public weight files make of random inputs: each script runs in an environment of its own."""
