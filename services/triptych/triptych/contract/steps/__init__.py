"""The vocabulary of steps: `images`, `tables`, `answers`, `boxes`, and what `registry` finds installed."""
