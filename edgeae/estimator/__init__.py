"""The autoencoder as a scikit-learn estimator."""
