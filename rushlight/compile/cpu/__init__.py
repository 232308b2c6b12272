"""The CPU back end: LLVM rendering, vector math, contractions, thread pool, executor."""
