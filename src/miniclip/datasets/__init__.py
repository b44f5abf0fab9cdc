"""Readers of captioned and labelled images; each module says what it reads."""
