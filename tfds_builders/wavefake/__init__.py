"""WaveFake: LJSpeech and JSUT through ten vocoders; see README.md."""
