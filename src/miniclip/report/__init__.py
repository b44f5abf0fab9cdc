"""Pages from results: one HTML file each, readable offline. Nothing in here computes a result."""
