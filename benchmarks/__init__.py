"""Measurements of the tool and of the embedded pair; none of them is a test."""
