"""From other people's models to bundles, without torch."""
