"""Search, name and classify images with words."""

__version__ = "0.1.0"
