"""Detection as a service: a page for people, and HTTP for programs.

server    the command: where it listens, and how it ends
app       what is answered on which path
uploads   recordings out of requests, within limits
decoding  a process with limits decodes them
page      the page in a browser

Recordings are held in memory alone, so that nothing is left of them, however
the service ends.
"""
