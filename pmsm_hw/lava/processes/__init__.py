"""Lava Processes and their models; importing them needs lava-nc.

Each module is a package without other modules: to find the models of a Process, Lava executes all
files of its folder, once for each of them, for every Process of a graph.
"""
