"""Critics: what judges an image against a request. `gcr.critic.critic` is where to begin."""
