"""The module run beside its source: what decides what names leave open, and what proves the port."""
