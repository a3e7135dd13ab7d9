"""Figures of the runs: statistics, goals, tables and plots."""
