"""Counts mode: the reference computes the spikes, and what follows on the chip is counted."""
