"""`triptych top`: loaded models of each predictor, and the controller's last decisions, in a terminal."""
