"""Things around training: graph drawings, the profiler, summaries, the command line."""
