"""Class names as supervision."""
