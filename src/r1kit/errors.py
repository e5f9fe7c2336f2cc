"""What can go wrong by a user's hand, and the exit status each one ends in.

R1Error                 exit 1: a one-line message, the trace only with --debug
  RecipeError           exit 2: a recipe or an argument that cannot be run as written
  ModelError            a folder that is no model, a model that the engine cannot run
  DataError             a problem, a file or a row that cannot be read
  VerifierError         a verifier that fails on its own gold answers
  RunError              a run folder that is in use, complete, damaged, or belongs to another recipe
"""


class R1Error(Exception):
    """Anything that a user can mend; the message says what was wrong, where, and what to do."""

    exit_status = 1


class RecipeError(R1Error):
    """A recipe or an argument that cannot be run as written."""

    exit_status = 2


class ModelError(R1Error):
    """A folder that is no model, or a model that cannot be run as asked."""


class DataError(R1Error):
    """A problem, a file or a row that cannot be read."""


class VerifierError(R1Error):
    """A verifier that is wrong about its own gold answers: training on it would teach nonsense."""


class RunError(R1Error):
    """A run folder that is in use, damaged, or was made by another recipe."""


class Interrupted(R1Error):
    """The user stopped the command."""

    exit_status = 130
