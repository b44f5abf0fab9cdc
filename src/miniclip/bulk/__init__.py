"""Very many images, wherever they lie, to vectors in Parquet: one shard after the other."""
