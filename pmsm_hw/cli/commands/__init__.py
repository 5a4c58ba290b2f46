"""The commands, a file each: options in, public functions called, answers out."""
