"""Speech enhancement: networks that make a clean wave of a noisy one."""
