"""What becomes of a run that is told to stop."""

EXIT_PREEMPTED = 75  # EX_TEMPFAIL of sysexits.h: "try again", which is what a scheduler should do


class Preempted(BaseException):
  """SIGTERM or Ctrl-C: the run has saved what it had, and the same command goes on from there.

  As KeyboardInterrupt it is no Exception. A signal may come within a library that handles those: JAX, where it compares
  trees, makes another error of any that it sees.
  """
