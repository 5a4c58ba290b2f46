"""Lava Processes and their models.

A folder of their own: to find the models of a Process, Lava executes every file beside it. Each
file is safe to execute alone, and there are few. Importing them needs lava-nc.
"""
