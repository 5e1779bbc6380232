"""Calibrates the score of a building, and judges estimated shares of destroyed buildings."""
