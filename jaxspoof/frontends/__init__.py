"""Front ends: waveforms `[B, T]` in, features `[B, frames, features]` out."""
