"""The two ways a request can go wrong; each message is one sentence a person can act on."""


class PlaygroundError(Exception):
    """Base of every error shown to a person. `exit_code` is what the command line returns."""

    exit_code = 1


class BadInput(PlaygroundError):
    """What was asked for cannot be done: the message names what was wrong, where, and what would be right."""

    exit_code = 2


class RunFailed(PlaygroundError):
    """The request was sound but the run broke: out of memory, a full disk, a lost engine process."""
