"""Where the recipes of a cache lie, on this disk or in a store, which of them are in use, and how one is deleted."""
