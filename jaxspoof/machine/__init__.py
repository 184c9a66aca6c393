"""What programs ask of the machine that they run on.

huge_pages   larger pages of memory, for speed
programs     a folder for compiled programs, for quick starts
interrupts   Ctrl-C as one line
files        files that are written whole or not at all
"""
