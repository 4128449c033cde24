"""Critics: what judges an image against a request. `gcr.critic.local` runs one on this machine."""
