"""The errors a user can mend: each is one line that says what is wrong, where, and what to do."""


class UserError(Exception):
    """Printed as it stands, without a traceback, with `exit_code` as the command's exit code."""

    exit_code = 1
