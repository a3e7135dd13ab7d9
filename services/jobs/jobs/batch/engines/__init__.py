"""Engines that run a batch on more than one machine. They schedule, place and retry its parts."""
