"""Pure functions on numbers: masked reductions, log-prob kernels, divergences, ranking models and the statistics that decide a result."""
