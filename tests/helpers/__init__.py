"""What several tests share: small scenes, servers on loopback, run files."""
