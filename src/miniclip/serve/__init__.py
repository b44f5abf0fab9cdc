"""The server: one encoder, one process, many people at once. Needs the extra [serve]."""
