"""`triptych jobs`: submit jobs to a service, follow their answers, and end them."""
