"""What a bundle costs on this machine."""
