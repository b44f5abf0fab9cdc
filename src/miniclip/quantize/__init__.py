"""Faster variants of a bundle, kept only if they lose too little on the user's own data."""
