"""A sweep's folder → tables, statistics, plots and a report. numpy, scipy and matplotlib; it never imports jax."""
