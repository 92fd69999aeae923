"""Logging, metric names, fault points; no business words."""
