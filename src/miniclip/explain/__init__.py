"""What drives a score: maps of pictures, words of texts, and how far each map can be believed."""
