"""Weights of other frameworks: read without them, matched to a module's layers, converted, and proven."""

from frostline.porting.certificate import Certificate as Certificate
