"""Figures as ratios over the bare call, taken interleaved in one run."""
