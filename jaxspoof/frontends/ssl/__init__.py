"""Self-supervised encoders of speech: wav2vec 2.0, HuBERT and WavLM."""
