"""Second stage: populations cut into blocks that fit a core, and blocks put together on cores."""
