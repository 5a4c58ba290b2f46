"""Changes of a network before it is mapped: fan-ins and fan-outs that no core can take."""
