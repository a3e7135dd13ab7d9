"""Writers: the answers of a part as files that are committed whole, and the output that is made of them."""
