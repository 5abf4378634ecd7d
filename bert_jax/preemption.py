"""What becomes of a run that is told to stop."""

EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: "try again", which is what a scheduler should do


class Preempted(BaseException):
  """SIGTERM or Ctrl-C: the run has saved what it had, and the same command goes on from there.

  Like KeyboardInterrupt, it is not an Exception: a signal may fall inside a library that catches those, as JAX does
  where it compares trees, and then raises another error.
  """
