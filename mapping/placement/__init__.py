"""Last stage: which core of the mesh takes which blocks, so that messages go short ways."""
