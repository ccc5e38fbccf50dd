"""Models over HTTP: an API that clients know already, and a page. `clearhead serve` runs it."""
