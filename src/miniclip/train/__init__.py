"""The training half: everything that needs torch. Importing this package alone loads nothing."""
