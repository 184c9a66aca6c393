"""Corpora in parquet files with the audio inside; see README.md."""
