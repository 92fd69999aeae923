"""Runs steps and ticks: claim, lease, drain."""
