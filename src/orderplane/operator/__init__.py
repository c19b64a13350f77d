"""The operator's process. The modules are links into `operator/` of the checkout; see tests/test_layout.py for why."""
