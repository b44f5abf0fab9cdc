"""Image and text towers: what is loaded, what learns."""
