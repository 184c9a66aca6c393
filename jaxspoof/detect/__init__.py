"""The command that scores audio: `detect.py`.

command   the command line
inputs    files, folders, globs, lists and standard input
compare   several detectors side by side
explained why, as a picture and in words
evidence  all of it in one file, for a third person
outputs   tables, JSON, CSV, and a file that goes on where it stopped
"""
