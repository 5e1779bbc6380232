"""Helpers of several tests: small scenes, servers on loopback, run files."""
