"""From a bundle to files that other people's programs load: graphs, processors, a card."""
