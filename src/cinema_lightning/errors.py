"""The one exception that the command line prints as a sentence instead of a stack trace."""

from __future__ import annotations


class CinemaError(Exception):
    """Something a user can mend: a wrong path, a broken file, a value in the YAML.

    The message is one clear sentence: which file, row or YAML key, what is wrong, and what to do. The command line
    prints it without a stack trace (unless ``CINEMA_DEBUG=1``) and ends with exit code 2.
    """
