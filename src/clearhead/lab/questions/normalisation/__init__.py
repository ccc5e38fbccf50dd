"""Questions about normalisation."""
