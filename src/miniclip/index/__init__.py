"""Find images, remember their vectors, rank them. No files in here are decoded, no model is run."""
