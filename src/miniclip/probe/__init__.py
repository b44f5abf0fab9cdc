"""The classifier on frozen features: data, heads and honest figures; no torch, runtime or pages."""
