"""What the questions need and the package does not have: small parts and data for comparison."""
