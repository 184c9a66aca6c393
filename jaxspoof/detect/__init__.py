"""The command that scores audio: `detect.py`.

command   the command line
inputs    files, folders, globs, lists and standard input
outputs   tables, JSON, CSV, and a file that goes on where it stopped
"""
