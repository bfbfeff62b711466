"""What a trained autoencoder is worth."""
