"""Networks: the multi-view masked autoencoder and what the downstream networks share with it."""
