"""Files to batches: sources, filters, token stores, length buckets, batch types, the catalog, the embedded grammar."""
