"""Cycle mode: every message is sent, routed, delivered and looked up on its own."""
