"""What every room stands on: errors, registries, recipes, seeds, devices, files, progress. Imports no other room."""
