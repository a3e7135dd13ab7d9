"""Sales: synthetic series of countries, and the networks that forecast them."""
