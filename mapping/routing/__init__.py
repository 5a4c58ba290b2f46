"""Messages between cores: who sends how many to whom, and over which links."""
