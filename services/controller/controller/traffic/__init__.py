"""What is served at this moment: the share that each version really gets, and telling the stages."""
