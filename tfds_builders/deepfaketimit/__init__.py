"""DeepfakeTIMIT, VidTIMIT and TIMIT-TTS as one corpus; see README.md."""
