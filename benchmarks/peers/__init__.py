"""The same call under other libraries, each in an environment of its own, interleaved with ours."""
