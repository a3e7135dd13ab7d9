"""What the stages share: the protocol, the contract, errors, health, metrics and the life of a process."""

__version__ = "0.1.0"
