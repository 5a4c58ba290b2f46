"""Chip files (TOML) that ship with the package."""
