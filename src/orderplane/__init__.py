"""Orderplane: real-time order processing as Kubernetes custom resources."""

__version__ = "0.1.0"
