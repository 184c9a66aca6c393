"""The encoder of Whisper, a model that writes down what is said."""
