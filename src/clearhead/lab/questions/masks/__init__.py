"""Questions about masks."""
