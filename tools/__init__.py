"""Programs that make and check files of this repository: chart, manifests, images."""
