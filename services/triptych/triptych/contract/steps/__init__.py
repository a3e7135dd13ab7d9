"""Steps of a contract: `images`, `tables`, `answers`, `boxes`, and those that `registry` finds installed."""
