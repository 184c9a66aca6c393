"""The door to architecture search for notebooks and programs.

Everything of the search is in `jaxspoof.darts`; this module gives what a user
of it names.
"""

from jaxspoof.darts.controller import SearchController, SearchResult, load

__all__ = ['SearchController', 'SearchResult', 'load']
