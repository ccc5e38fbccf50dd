"""Questions about numerics."""
