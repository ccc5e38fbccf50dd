"""Questions about attention."""
