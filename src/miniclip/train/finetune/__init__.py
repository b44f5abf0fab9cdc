"""Unfreezing: part of an image tower learns with the head, and leaves as a bundle of its own."""
