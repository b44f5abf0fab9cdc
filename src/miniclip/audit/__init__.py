"""Audits: whom a model serves worse, what it associates, and what went into a data set."""
