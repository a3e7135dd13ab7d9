"""Steps on pictures: from files to the arrays that a model takes."""
