"""Traffic: the shares in force of each version, and their publication to the stages."""
