"""Globus as a transfer manager: bytes go from one Globus collection to another, and Globus looks after them."""
